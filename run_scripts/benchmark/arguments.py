"""The arguments of the benchmark."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.errors import MissingFileError, UserError


MODES = ("log-mel", "random", "supervised", "frozen", "fine-tuned")  # in the order of the columns
# What the columns call a mode, where it is not by its own name.
MODE_TITLES = {"random": "random weights", "supervised": "from scratch"}
TRAINED_MODES = ("supervised", "fine-tuned")  # The encoder is trained on the task.
RANDOM_MODES = ("random", "supervised")  # The encoder starts from random weights.
SCHEDULES = ("constant", "linear", "cosine")  # a choice of the Trainer's: the last two fall to 0


@dataclass
class BenchmarkArguments:
    tasks_dir: str = field(metadata={"help": "The folder that holds a folder for each task."})
    output_dir: str = field(metadata={"help": "The folder for the results, the tables and the plots."})
    checkpoints: list[str] = field(
        default_factory=list, metadata={"help": "The checkpoints: folders or names of models on the Hub."}
    )
    tasks: list[str] | None = field(
        default=None, metadata={"help": "The names of the tasks to evaluate. Defaults to all tasks in --tasks_dir."}
    )
    modes: list[str] = field(
        default_factory=lambda: ["log-mel", "random", "frozen"],
        metadata={"help": f"The methods to compare, some of {', '.join(MODES)}."},
    )
    seeds: int = field(
        default=1, metadata={"help": "The number of seeds, for random weights and for training, to average over."}
    )
    epochs: int = field(
        default=20,
        metadata={"help": "The number of epochs in the modes supervised and fine-tuned. The paper trains for 100."},
    )
    batch_size: int = field(
        default=64,
        metadata={"help": "The number of clips in a training batch in the modes supervised and fine-tuned."},
    )
    learning_rate: float = field(
        default=1e-3, metadata={"help": "The initial learning rate in the modes supervised and fine-tuned."}
    )
    lr_scheduler_type: str = field(
        default="constant",
        metadata={
            "help": "The schedule of the learning rate in the modes supervised and fine-tuned: "
            f"{', '.join(SCHEDULES)}. The last two fall to 0."
        },
    )
    freeze_batch_norm: bool = field(
        default=False,
        metadata={
            "help": "Whether BatchNorm keeps the checkpoint's statistics in the mode fine-tuned. This helps deep "
            "encoders such as EfficientNet-B0 on few clips."
        },
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "Cross-validate on this many folds of the training clips in place of testing, to choose between "
            "checkpoints without reading a test clip. Clips with the same value in a column `group` share a fold."
        },
    )
    compare: str | None = field(
        default=None, metadata={"help": "The results.json of another run, whose columns are added to the tables."}
    )
    skip_bad_clips: bool = field(
        default=False,
        metadata={
            "help": "Leave out clips that are missing, empty, damaged or otherwise unusable, and list them in "
            "OUTPUT_DIR/skipped.tsv. By default the methods that meet one are missing from the tables."
        },
    )

    def __post_init__(self) -> None:
        if unknown := set(self.modes) - set(MODES):
            raise UserError(f"--modes must be some of {', '.join(MODES)}, got {', '.join(sorted(unknown))}.")
        for name in ("seeds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"--learning_rate must be above 0, got {self.learning_rate}.")
        if self.lr_scheduler_type not in SCHEDULES:
            raise UserError(
                f"--lr_scheduler_type must be one of {', '.join(SCHEDULES)}, got {self.lr_scheduler_type!r}."
            )
        if self.folds is not None and self.folds < 2:
            raise UserError(f"--folds must be at least 2, got {self.folds}.")
        if self.folds is not None and set(TRAINED_MODES) & set(self.modes):
            raise UserError(
                f"--folds evaluates frozen encoders only: leave {' and '.join(TRAINED_MODES)} out of --modes."
            )
        if self.compare and not Path(self.compare).is_file():
            raise MissingFileError(f"--compare {self.compare}: there is no such file. Name a run's results.json.")

    def training(self, mode: str) -> dict[str, int | float | str | bool] | None:
        """Returns how the encoder is trained in a mode, or `None` in modes in which it is not."""
        if mode not in TRAINED_MODES:
            return None
        names = ("epochs", "batch_size", "learning_rate", "lr_scheduler_type")
        names += ("freeze_batch_norm",) if mode == "fine-tuned" else ()
        return {name: getattr(self, name) for name in names}
