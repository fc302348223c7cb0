"""
The arguments of detection: which recordings, by which classifier, and what counts as an event.

Importing this file loads no heavy library, so that `--help` is quick.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.errors import UserError
from run_scripts.common.source_arguments import SourceArguments


@dataclass
class DetectionArguments(SourceArguments):
    dataset_split: str | None = field(default=None, metadata={"help": "The split to read. Defaults to all splits."})
    model_name_or_path: str = field(
        kw_only=True,
        metadata={"help": "The classifier: a folder of run_classification.py, or the name of a model on the Hub."},
    )
    output_dir: str = field(kw_only=True, metadata={"help": "The folder for the events and the plots."})
    max_plots: int = field(
        default=20, metadata={"help": "How many recordings to draw, from the first one on. 0 draws none."}
    )

    def __post_init__(self) -> None:
        if self.max_plots < 0:
            raise UserError(f"--max_plots must be at least 0, got {self.max_plots}.")

    @property
    def output_path(self) -> Path:
        return Path(self.output_dir)


@dataclass
class EventArguments:
    """What counts as an event. Times are in seconds."""

    hop: float | None = field(
        default=None,
        metadata={
            "help": "Seconds from the start of one window to the start of the next, a multiple of 0.01. Events begin "
            "and end within half a hop of the truth at best. Defaults to half a window, 0.48 s."
        },
    )
    threshold: float = field(
        default=0.5,
        metadata={
            "help": "The score, above 0 and up to 1, from which on a label is present in a window. If labels exclude "
            "each other, only the most probable one can be present."
        },
    )
    labels: list[str] | None = field(
        default=None, metadata={"help": "The labels to report. Defaults to all. The others still compete with them."}
    )
    ignore_labels: list[str] | None = field(
        default=None, metadata={"help": "Labels to leave out, such as the class of the background."}
    )
    smoothing: int = field(
        default=3,
        metadata={
            "help": "The score of a window is replaced by the median of this many windows around it, an odd number. "
            "With 1, a single window can make an event."
        },
    )
    max_gap: float = field(
        default=0.5, metadata={"help": "Joins events of the same label that are at most this many seconds apart."}
    )
    min_duration: float = field(
        default=0.0, metadata={"help": "Leaves out events that are shorter than this many seconds after joining."}
    )
    silence: float = field(
        default=30.0,
        metadata={
            "help": "Windows that are more than this many dB quieter than the whole recording (root mean square) are "
            "silent and have no label."
        },
    )

    def __post_init__(self) -> None:
        if self.hop is not None and not 0 < self.hop < math.inf:
            raise UserError(f"--hop must be above 0 seconds and finite, got {self.hop}.")
        if not 0 < self.threshold <= 1:
            raise UserError(f"--threshold must be above 0 and at most 1, got {self.threshold}.")
        if self.smoothing < 1 or self.smoothing % 2 == 0:
            raise UserError(f"--smoothing must be an odd number of windows, such as 3, got {self.smoothing}.")
        for name in ("max_gap", "min_duration", "silence"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--{name} must be at least 0, got {getattr(self, name)}.")
