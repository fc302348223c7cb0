"""The source and the output folder of a run, and the progress files from which a stopped run is resumed."""

import json
import logging
import math
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Audio, Dataset, Features, IterableDataset

from feature_extraction import ClipNote
from feature_extraction.tables import SPLITS_BY_NAME
from run_scripts.common.errors import UserError
from run_scripts.common.files import remove_temporary_files, write_json
from run_scripts.common.resume import check_settings
from run_scripts.common.source import load_source
from run_scripts.common.source_arguments import SourceArguments
from run_scripts.preparation.arguments import SAMPLING_RATE, SUFFIXES, PreparationArguments


logger = logging.getLogger(__name__)

PROGRESS_DIR = ".progress"


@dataclass
class Part:
    """
    The progress on one part of the source: on a range of its rows or, if it is streamed, on one of its shards.

    It is saved each time a shard of the output is complete, so that all shards that it lists exist whenever the run is
    stopped.

    Args:
        rows (`int`, *optional*, defaults to 0):
            Number of rows of the part that are in the shards or were skipped.
        is_done (`bool`, *optional*, defaults to `False`):
            Whether these are all rows of the part.
        shards (`list[str]`, *optional*):
            The file names of the shards.
        clips (`int`, *optional*, defaults to 0):
            Number of clips in the shards.
        samples (`int`, *optional*, defaults to 0):
            Number of samples in the shards.
        skipped (`list[ClipNote]`, *optional*):
            The clips that were skipped.
    """

    rows: int = 0
    is_done: bool = False
    shards: list[str] = field(default_factory=list)
    clips: int = 0
    samples: int = 0
    skipped: list[ClipNote] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.skipped = [ClipNote(*note) for note in self.skipped]  # which JSON keeps as lists


@dataclass
class Job:
    """
    A run, as all its processes know it.

    Args:
        source (`SourceArguments`):
            Which audio to read.
        args (`PreparationArguments`):
            How to write it.
        dataset (`Dataset` or `IterableDataset`):
            The source, in Arrow's format.
        column (`str`):
            The name of its audio column.
        num_parts (`int`):
            The number of parts that it is divided into. Each of them is converted by one worker.
        settings (`dict[str, Any]`):
            All that must be the same when the run is resumed.
    """

    source: SourceArguments
    args: PreparationArguments
    dataset: Dataset | IterableDataset
    column: str
    num_parts: int
    settings: dict[str, Any]

    @property
    def output_dir(self) -> Path:
        return self.args.output_path

    @property
    def schema(self) -> pa.Schema:
        """The schema of the shards: that of the source, with the types of its columns as `datasets` notes them."""
        return Features(self.dataset.features | {self.column: Audio(sampling_rate=SAMPLING_RATE)}).arrow_schema

    def shard_name(self, part: int, shard: int) -> str:
        # `datasets` recognizes these splits by the names of files. Shards of any other are named as training data.
        split = self.source.dataset_split if self.source.dataset_split in SPLITS_BY_NAME else "train"
        return f"{split}-{part:05}-{shard:05}.parquet"

    def clip_name(self, path: str | None) -> str | None:
        """
        Returns the name of a clip in the shards. For a file, this is its path relative to the source's folder. No name
        leads out of the folder into which somebody may unpack the shards.
        """
        if path is None:
            return None
        relative = path.removeprefix(f"{Path(self.source.dataset_name).expanduser()}/")
        parts = [part for part in os.path.normpath(relative).split("/") if part not in ("", "..")]
        return f"{os.path.splitext('/'.join(parts))[0]}.{SUFFIXES[self.args.format]}"

    def part_path(self, number: int) -> Path:
        return self.output_dir / PROGRESS_DIR / f"part-{number:05}.json"

    def load_part(self, number: int) -> Part:
        """Loads the progress on a part. If one of its shards has been deleted, the part starts from the beginning."""
        path = self.part_path(number)
        part = Part(**json.loads(path.read_text())) if path.exists() else Part()
        return part if all((self.output_dir / name).exists() for name in part.shards) else Part()

    def load_parts(self) -> list[Part]:
        return [self.load_part(number) for number in range(self.num_parts)]

    def save_part(self, number: int, part: Part) -> None:
        write_json(self.part_path(number), asdict(part))

    def remove_temporary_files(self) -> None:
        for folder in (self.output_dir, self.output_dir / PROGRESS_DIR):
            remove_temporary_files(folder)


def create_output_dir(source: SourceArguments, args: PreparationArguments) -> None:
    """
    Creates the output folder, or checks that the existing one is that of an earlier run.

    Raises:
        `ValueError`: if it lies in the source, or contains Parquet files that no earlier run wrote.
        `OSError`: if it cannot be written to.
    """
    output_dir = args.output_path
    folder = Path(source.dataset_name).expanduser()
    if folder.is_dir() and output_dir.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--output_dir {output_dir} lies in --dataset_name {folder}: choose a folder outside of it.")
    try:
        (output_dir / PROGRESS_DIR).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_dir).close()
    except OSError as error:
        raise OSError(
            f"--output_dir {output_dir} cannot be written to ({error.strerror}): choose another folder."
        ) from error
    if not (output_dir / PROGRESS_DIR / "settings.json").exists() and any(output_dir.glob("*.parquet")):
        raise UserError(
            f"--output_dir {output_dir} contains Parquet files that no earlier run wrote: choose another folder."
        )


def load_job(source: SourceArguments, args: PreparationArguments, num_workers: int) -> Job:
    """
    Loads the source, and divides it into parts.

    Args:
        source (`SourceArguments`):
            Which audio to read.
        args (`PreparationArguments`):
            How to write it.
        num_workers (`int`):
            Number of worker processes.

    Raises:
        `ValueError`: if the split or the column does not exist, if the source is empty, or if the settings differ from
            those of the run to resume.
    """
    dataset, column = load_source(source)
    if dataset.features is None:
        raise UserError(f"The columns of {source.dataset_name} are unknown as a stream: run without --streaming.")
    settings = collect_settings(source, args, dataset, column)
    num_parts = save_or_check_settings(args.output_path, settings, count_parts(source, dataset, num_workers))
    # In Arrow's format no column is decoded, and all columns but the audio are written as they were read.
    return Job(source, args, dataset.with_format("arrow"), column, num_parts, settings)


def collect_settings(
    source: SourceArguments, args: PreparationArguments, dataset: Dataset | IterableDataset, column: str
) -> dict[str, Any]:
    """Collects all that must be the same when a run is resumed."""
    settings = asdict(source)
    del settings["allow_remote_audio"]  # which decides whether rows are read, not what they become
    settings |= {"format": args.format, "shard_size": args.shard_size, "max_seconds": args.max_seconds}
    settings["audio_column"] = column
    folder = os.path.expanduser(source.dataset_name)
    if os.path.exists(folder):
        settings["dataset_name"] = os.path.realpath(folder)
    if isinstance(dataset, IterableDataset):
        settings["shards_of_the_source"] = dataset.num_shards
    else:
        settings["rows_of_the_source"] = len(dataset)
    return settings


def count_parts(source: SourceArguments, dataset: Dataset | IterableDataset, num_workers: int) -> int:
    """
    Decides into how many parts a new run divides the source: a stream into its shards, and rows into several parts for
    each worker, so that all workers finish at about the same time.

    Raises:
        `ValueError`: if the source has no rows.
    """
    if isinstance(dataset, IterableDataset):
        if dataset.num_shards < num_workers:
            logger.warning(
                f"The stream has {dataset.num_shards} shards, so only {dataset.num_shards} of {num_workers} workers "
                "are used."
            )
        return dataset.num_shards
    if len(dataset) == 0:
        raise UserError(f"{source.dataset_name} has no rows in its split {source.dataset_split!r}.")
    return min(4 * num_workers, math.ceil(len(dataset) / 10))


def save_or_check_settings(output_dir: Path, settings: dict[str, Any], num_parts: int) -> int:
    """
    Saves the settings of a new run. If there is a run to resume, checks that its settings are the same.

    Args:
        output_dir (`Path`):
            The output folder.
        settings (`dict[str, Any]`):
            All that must be the same.
        num_parts (`int`):
            Number of parts of a new run.

    Returns:
        `int`: The number of parts. That of the earlier run is kept, whatever the number of workers is now.

    Raises:
        `ValueError`: if the settings differ. The message names the differences.
    """
    path = output_dir / PROGRESS_DIR / "settings.json"
    if not path.exists():
        write_json(path, {"settings": settings, "num_parts": num_parts})
    earlier = json.loads(path.read_text())
    check_settings(output_dir, earlier["settings"], settings)
    return earlier["num_parts"]
