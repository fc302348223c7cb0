"""The arguments of pre-training that are not part of a recipe."""

from dataclasses import dataclass, field

from run_scripts.common.errors import UserError
from run_scripts.common.source_arguments import DATA, SourceArguments
from run_scripts.pretraining.recipes import RECIPES


OBJECTIVE_NAMES = (
    "contrastive",
    "triplet",
    "temporal_gap",
    "audio2vec_cbow",
    "audio2vec_skipgram",
    "distillation",
)
# Of the seeds that PyTorch and NumPy take; each process adds its rank.
LARGEST_SEED = 2**31 - 1


def check_seed(seed: int) -> None:
    """Checks that a seed is between 0 and `LARGEST_SEED`."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"--seed must be from 0 to {LARGEST_SEED}, got {seed}.")


@dataclass
class DataArguments(SourceArguments):
    """The recordings to train and to validate on."""

    dataset_name: list[str] | None = field(
        default=None,
        metadata={
            "help": f"The recordings: {DATA}. If there are several, every batch has pairs of each. Without any, all "
            "pairs are synthetic."
        },
    )
    mixing_weights: list[float] | None = field(
        default=None,
        metadata={"help": "The relative number of pairs of each data set in a batch. Defaults to equal numbers."},
    )
    validation_clips: int = field(
        default=256,
        metadata={"help": "Recordings held out for validation: at most a tenth; of a stream, the first ones."},
    )
    max_bad_fraction: float = field(
        default=0.2, metadata={"help": "Stop with an error if more than this share of the clips cannot be used."}
    )
    probe_data: str | None = field(
        default=None,
        metadata={
            "help": "A small labelled data set, in folders or Parquet, for linear evaluation at each validation."
        },
    )

    def __post_init__(self) -> None:
        if self.validation_clips < 0:
            raise UserError(f"--validation_clips must be at least 0, got {self.validation_clips}.")
        if not 0 <= self.max_bad_fraction <= 1:  # which NaN is not, either
            raise UserError(f"--max_bad_fraction must be from 0 to 1, got {self.max_bad_fraction}.")


@dataclass
class PretrainingArguments:
    """The run: its recipe, length, log and checkpoints. Arguments that the Trainer has as well are named as there."""

    output_dir: str = field(metadata={"help": "Folder of the checkpoints, the plots and the model."})
    recipe: str = field(default="paper", metadata={"help": f"One of {', '.join(RECIPES)}."})
    objective: str = field(
        default="contrastive",
        metadata={
            "help": "contrastive is COLA's own; triplet, temporal_gap, audio2vec_cbow and audio2vec_skipgram are "
            "those that the paper compares it with; distillation learns from a trained encoder."
        },
    )
    teacher_name_or_path: str | None = field(
        default=None, metadata={"help": "The checkpoint that --objective distillation learns from."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A checkpoint to start from in place of random weights."}
    )
    per_device_train_batch_size: int = field(
        default=64,
        metadata={"help": "Pairs in a step of each process. Each anchor is compared with all positives of the step."},
    )
    max_steps: int = field(default=10_000, metadata={"help": "The number of training steps."})
    seed: int = field(default=0, metadata={"help": "Seed of weights, order, segments and augmentation."})
    dataloader_num_workers: int = field(default=1, metadata={"help": "Worker processes that decode audio."})
    bf16: bool = field(
        default=False,
        metadata={
            "help": "Train in mixed precision. It is faster where the device multiplies in bfloat16: recent GPUs, and "
            "CPUs with AMX if the encoder consists of dense convolutions, as the compact one does."
        },
    )
    torch_compile: bool = field(
        default=False,
        metadata={
            "help": "Compile the encoder, which takes up to some minutes at the start. This is meant for GPUs: on "
            "CPUs, steps become hardly faster, or slower. Compiling for CPUs needs a C++ compiler."
        },
    )
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Save memory at the cost of slower steps."})
    logging_steps: int = field(default=20, metadata={"help": "Steps between two entries of the log."})
    eval_steps: int = field(default=250, metadata={"help": "Steps between two validations."})
    save_steps: int = field(default=500, metadata={"help": "Steps between two checkpoints."})
    save_total_limit: int = field(
        default=2, metadata={"help": "Checkpoints to keep, the newest ones; 0 or less keeps all."}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Resume from this checkpoint, or without a value from the newest whole one in output_dir. Where "
            "there is none, the run starts anew.",
            "nargs": "?",
            "const": "latest",
        },
    )
    load_best_model_at_end: bool = field(
        default=False, metadata={"help": "Save the weights of the best validation instead of those of the last step."}
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={
            "help": "probe_accuracy, validation_loss or validation_accuracy. Defaults to probe_accuracy where there "
            "is --probe_data, and else to validation_loss."
        },
    )
    report_to: str | None = field(
        default=None, metadata={"help": "A tracker that accelerate knows: tensorboard, trackio, wandb ...; or none."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Push the model, its card and its plots to the Hub."})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "Repository to push to. Defaults to the name of output_dir."}
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the weights for the card, as the Hub writes it: cc-by-4.0."}
    )

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise UserError(f"--recipe must be one of {', '.join(RECIPES)}, got {self.recipe!r}.")
        if self.objective not in OBJECTIVE_NAMES:
            raise UserError(f"--objective must be one of {', '.join(OBJECTIVE_NAMES)}, got {self.objective!r}.")
        if (self.objective == "distillation") != (self.teacher_name_or_path is not None):
            raise UserError("--objective distillation and --teacher_name_or_path need each other: pass both or none.")
        for name in ("per_device_train_batch_size", "max_steps", "logging_steps", "eval_steps", "save_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if self.dataloader_num_workers < 0:
            raise UserError(f"--dataloader_num_workers must be at least 0, got {self.dataloader_num_workers}.")
        check_seed(self.seed)
        self._check_tracker()
        metrics = ("probe_accuracy", "validation_loss", "validation_accuracy")
        if self.metric_for_best_model not in (None, *metrics):
            raise UserError(
                f"--metric_for_best_model must be one of {', '.join(metrics)}, got {self.metric_for_best_model!r}."
            )

    def _check_tracker(self) -> None:
        if self.report_to in (None, "none"):  # which is the Trainer's word for it
            self.report_to = None
            return
        from accelerate.utils import LoggerType  # only now, since it takes seconds

        if self.report_to not in LoggerType.list():
            names = ", ".join(map(str, LoggerType.list()))
            raise UserError(f"--report_to must be none or one of {names}, got {self.report_to!r}.")
