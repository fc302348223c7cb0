"""The arguments of the preparation that say how audio is written."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from run_scripts.common.errors import UserError


SAMPLING_RATE = 16000
MIN_SECONDS = 0.1  # of a piece of a recording
SUFFIXES = {"flac": "flac", "pcm": "wav"}  # the file name suffix of each format, which is also soundfile's name for it


@dataclass
class PreparationArguments:
    output_dir: str = field(
        metadata={"help": "The folder to write the shards to: a new one, or that of a run to resume."}
    )
    format: str = field(
        default="flac",
        metadata={"help": "The format of the clips: 'flac', or 'pcm', which is larger but faster to read."},
    )
    shard_size: float = field(default=500, metadata={"help": "Size of a shard in megabytes."})
    max_seconds: float | None = field(
        default=None,
        metadata={
            "help": "Recordings that are longer, in seconds, are cut into equal pieces of at most this duration."
        },
    )
    num_workers: int | None = field(
        default=None, metadata={"help": "Number of worker processes. Defaults to the number of CPU cores."}
    )

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise UserError(f"--format must be one of {', '.join(SUFFIXES)}, got {self.format!r}.")
        if not 0 < self.shard_size < math.inf:  # which NaN is not, either
            raise UserError(f"--shard_size must be more than 0, got {self.shard_size}.")
        if self.max_seconds is not None and not self.max_seconds >= MIN_SECONDS:
            raise UserError(f"--max_seconds must be at least {MIN_SECONDS}, got {self.max_seconds}.")
        if self.num_workers is not None and self.num_workers <= 0:
            raise UserError(f"--num_workers must be more than 0, got {self.num_workers}.")

    @property
    def output_path(self) -> Path:
        return Path(self.output_dir)
