"""Loading the recordings that a script reads."""

import hashlib
import logging
import os
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from feature_extraction import describe_splits, find_audio_column, load_audio_dataset, undecoded
from feature_extraction.audio_source import file_system_name
from run_scripts.common.errors import UserError
from run_scripts.common.source_arguments import SourceArguments


logger = logging.getLogger(__name__)

# Files of these kinds hold many clips.
SHARDS = (".arrow", ".parquet", ".tar")


def load_splits(
    source: SourceArguments, splits: DatasetDict | IterableDatasetDict | None = None
) -> DatasetDict | IterableDatasetDict:
    """
    Loads the split that a script reads, or all splits if none is named, and logs what all of them hold.

    Args:
        source ([`SourceArguments`]):
            Which recordings.
        splits (`DatasetDict` or `IterableDatasetDict`, *optional*):
            The data set, if it is loaded already.

    Raises:
        `ValueError`, `FileNotFoundError`: If there is no such data set or split.
    """
    if splits is None:
        splits = load_audio_dataset(
            source.dataset_name,
            source.dataset_config_name,
            source.streaming,
            source.allow_remote_audio,
            source.audio_column,
        )
    logger.info(f"{source.dataset_name} has {describe_splits(splits)}.")
    if source.dataset_split is None:
        return splits
    if source.dataset_split not in splits:
        raise UserError(f"There is no split {source.dataset_split!r}; there are {', '.join(splits)}.")
    return type(splits)({source.dataset_split: splits[source.dataset_split]})


def load_source(
    source: SourceArguments, splits: DatasetDict | IterableDatasetDict | None = None
) -> tuple[Dataset | IterableDataset, str]:
    """
    Loads the split that a script reads, as [`load_splits`] does, with its audio left encoded. Returns it and the name
    of its audio column.
    """
    dataset = load_splits(source, splits)[source.dataset_split]
    column = find_audio_column(dataset, source.audio_column)
    return undecoded(dataset, column), column


def hash_files(
    name: str,
    splits: dict[str, Dataset | IterableDataset],
    audio_column: str,
    exclude: Path | None = None,
    with_times: bool = True,
) -> str:
    """
    Computes a hash of the names and sizes, and by default of the times, of the files that a data set of this name is
    read from: its clips, and the Parquet, Arrow and tar files in its folder, without those in the folder `exclude`,
    that of the output, if there is one. Of a data set on the Hub it is always the same.
    """
    paths = []
    for dataset in splits.values():
        if isinstance(dataset, Dataset):
            stored = undecoded(dataset, audio_column).data.column(audio_column)
            is_file = pc.is_null(pc.struct_field(stored, "bytes"))  # rather than part of the data set
            paths += pc.if_else(is_file, pc.struct_field(stored, "path"), None).drop_null().to_pylist()
    root = Path(name).expanduser().absolute()
    found = root.rglob("*") if root.is_dir() else map(Path, glob(str(root), recursive=True))
    shards = [path for path in found if path.suffix in SHARDS]
    paths += sorted(str(path) for path in shards if not (exclude and path.is_relative_to(exclude.absolute())))
    digest = hashlib.sha256()
    for path in paths:
        file = file_system_name(path.rsplit("::", 1)[-1])  # For a file inside an archive this is the archive.
        if os.path.exists(file):
            status = os.stat(file)
            path += f" {status.st_size}" + (f" {status.st_mtime_ns}" if with_times else "")
            path += "" if os.access(file, os.R_OK) else " unreadable"
        digest.update(os.fsencode(f"{path}\n"))
    return digest.hexdigest()[:16]


def have_files_changed(earlier: dict[str, Any], files: str) -> bool:
    """Whether the files of a data set have another hash than an earlier run wrote into its settings, if it did."""
    return earlier.get("files") not in (None, files)


def check_files(folder: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    """
    Checks that the files of a data set, `settings["dataset_name"]`, are those of the earlier run with output in
    `folder` that is resumed.

    Raises:
        [`UserError`]: If they have changed.
    """
    name = settings["dataset_name"]
    if earlier["dataset_name"] == name and have_files_changed(earlier, settings["files"]):
        raise UserError(
            f"The files of --dataset_name {name} are not those that the run in {folder} began with: some are new or "
            "gone, or have another name, size or time. Name another --output_dir, or remove this one, to begin again."
        )
