"""
The arguments of training a classifier: the model, the data, and how it is trained.

Importing this file loads no heavy library, so that `--help` is quick.
"""

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub.constants import HF_HOME

from run_scripts.classification.paper_tasks import TASKS
from run_scripts.common.errors import UserError
from run_scripts.common.source_arguments import DatasetArguments


MODES = {
    "frozen": "linear evaluation, a linear layer on the checkpoint's frozen encoder",
    "fine-tuned": "the checkpoint's encoder is trained together with the linear layer",
    "random": "linear evaluation of an encoder with random weights",
    "supervised": "an encoder with random weights is trained together with the linear layer",
}
CHECKPOINT_MODES = ("frozen", "fine-tuned")  # These start from the checkpoint's weights.
CLASS_WEIGHTS = ("none", "balanced")
FROZEN_MODES = ("frozen", "random")  # These train the linear layer alone.


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A checkpoint: a folder or the name of a model on the Hub. The modes random and supervised take "
            "only its architecture."
        },
    )
    encoder: str = field(
        default="efficientnet_b0", metadata={"help": "The encoder of a model that is built without a checkpoint."}
    )
    mode: str = field(
        default="fine-tuned", metadata={"help": "; ".join(f"{mode}: {text}" for mode, text in MODES.items()) + "."}
    )
    freeze_batch_norm: bool = field(
        default=False,
        metadata={
            "help": "Whether BatchNorm keeps the checkpoint's statistics in the mode fine-tuned. This helps deep "
            "encoders such as EfficientNet-B0 on few clips."
        },
    )
    embedding_cache: str = field(
        default=str(Path(HF_HOME) / "cola"),
        metadata={
            "help": "The folder in which the embeddings of frozen encoders are kept, or 'off' to embed the clips "
            "again in each epoch."
        },
    )

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UserError(f"--mode must be one of {', '.join(MODES)}, got {self.mode!r}.")
        if self.mode in CHECKPOINT_MODES and self.model_name_or_path is None:
            raise UserError(f"--mode {self.mode} needs a checkpoint: pass --model_name_or_path.")
        if self.freeze_batch_norm and self.mode != "fine-tuned":
            raise UserError(f"--freeze_batch_norm is for --mode fine-tuned, got --mode {self.mode}.")


@dataclass
class DataArguments(DatasetArguments):
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Labelled clips: a folder with a folder of audio files for each class, a folder or glob of "
            "Parquet or tar files, a CSV or JSON Lines file, or a data set on the Hub."
        },
    )
    task: str | None = field(
        default=None, metadata={"help": f"One of the paper's tasks, in place of a data set: {', '.join(TASKS)}."}
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "The folder that holds the data of --task, as its publisher lays it out."}
    )
    label_column: str = field(default="label", metadata={"help": "The column of labels."})
    skip_bad_clips: bool = field(
        default=False,
        metadata={
            "help": "Leave out clips that are missing, empty, damaged or otherwise unusable, and list them in "
            "OUTPUT_DIR/skipped.tsv. All clips are decoded once to find them. By default the first one is an error."
        },
    )

    def __post_init__(self) -> None:
        if (self.dataset_name is None) == (self.task is None):
            raise UserError("Name the data to train on: pass either --dataset_name, or --task with --data_dir.")
        if self.task is not None and self.task not in TASKS:
            raise UserError(f"--task must be one of {', '.join(TASKS)}, got {self.task!r}.")
        if (self.task is None) != (self.data_dir is None):
            raise UserError("--task and --data_dir go together: --data_dir is the folder with the data of the task.")

    @property
    def name(self) -> str:
        """The name of the task or the data set, for results and cards."""
        if self.task is not None:
            return self.task
        path = Path(self.dataset_name).expanduser()
        return path.resolve().name if path.exists() else path.name


@dataclass
class ProtocolArguments:
    """
    Those of the Trainer's arguments that have other defaults here, which are the paper's protocol (arXiv 2010.10915,
    section 3, "downstream"), and those that the Trainer does not have.
    """

    output_dir: str = field(metadata={"help": "The folder for the model, its checkpoints, the results and the plots."})
    learning_rate: float = field(default=1e-3, metadata={"help": "The initial learning rate of Adam."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "The schedule of the learning rate."})
    num_train_epochs: float = field(default=100, metadata={"help": "The number of training epochs."})
    per_device_train_batch_size: int = field(
        default=64, metadata={"help": "The number of clips in a training batch of each process."}
    )
    per_device_eval_batch_size: int = field(
        default=16, metadata={"help": "The number of whole clips in an evaluation batch of each process."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate on the validation split."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int = field(
        default=1, metadata={"help": "The number of checkpoints to keep. The best one is always among them."}
    )
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Whether to keep the weights of the best epoch in place of the last one's."}
    )
    metric_for_best_model: str = field(
        default="accuracy",
        metadata={
            "help": "The validation metric that decides which epoch is best: accuracy, macro_f1, loss, or map, which "
            "replaces accuracy where clips have several labels."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": "latest",
            "help": "Resume training from this checkpoint, a folder such as OUTPUT_DIR/checkpoint-100. Without a "
            "value, or with 'latest', from the newest checkpoint in --output_dir; if there is none, training starts "
            "from the beginning.",
        },
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Whether to train from the beginning in a folder that holds a run or a model, and replace it."
        },
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: clips are decoded from columns that the model does not take."}
    )
    report_to: str = field(default="none", metadata={"help": "The experiment trackers to report to."})
    license: str | None = field(
        default=None,
        metadata={"help": "The licence of the weights for the model card, as the Hub writes it, such as cc-by-4.0."},
    )
    class_weights: str = field(
        default="none",
        metadata={
            "help": "How much each class counts in the loss: 'none' for the same weight for each clip, or 'balanced' "
            "for weights in inverse proportion to the number of training clips of a class."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop training when --metric_for_best_model has not improved in this many evaluations. By default "
            "all epochs are trained."
        },
    )

    def __post_init__(self) -> None:
        if self.class_weights not in CLASS_WEIGHTS:
            raise UserError(f"--class_weights must be one of {', '.join(CLASS_WEIGHTS)}, got {self.class_weights!r}.")
        if self.overwrite_output_dir and self.resume_from_checkpoint is not None:
            raise UserError("--overwrite_output_dir and --resume_from_checkpoint exclude each other: pass one.")
        if "no" in (self.eval_strategy, self.save_strategy):
            self.load_best_model_at_end = False  # No epoch can be chosen.
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise UserError(f"--early_stopping_patience must be at least 1, got {self.early_stopping_patience}.")
            if not self.load_best_model_at_end:
                raise UserError(
                    "--early_stopping_patience needs --load_best_model_at_end True, and an --eval_strategy and a "
                    "--save_strategy other than no."
                )
