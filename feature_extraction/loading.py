"""Loading of data sets that have an audio column, with the audio left encoded."""

import tarfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    Value,
    load_dataset,
)

from .audio import AUDIO_SUFFIXES


# The type in which `datasets` stores a column of type `Audio`.
STORED_AUDIO = {"bytes": Value("binary"), "path": Value("string")}

# Folders of audio files with these names are splits, not labels.
SPLIT_FOLDERS = {"train", "validation", "valid", "val", "dev", "test", "eval"}


def load_audio_dataset(
    name: str, config_name: str | None = None, streaming: bool = False
) -> DatasetDict | IterableDatasetDict:
    """
    Loads all the splits of a data set, with the audio left encoded.

    Args:
        name (`str`):
            One of

            - a folder of audio files, at any depth. If they lie in sub-folders, each has a `label`, the name of the
              topmost one. If all the topmost folders have names of splits (`train`, `test` and so on), they are the
              splits, and the folders inside them are the labels;
            - a folder, a file or a glob pattern of Parquet;
            - a folder, a file or a glob pattern of tar files as WebDataset writes them. Only their audio is read, as
              a single split, `train`, and always as a stream;
            - a data set on the Hub.
        config_name (`str`, *optional*):
            The configuration of a data set on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read Parquet or the Hub as a stream rather than make a local copy first. Audio files are never
            copied.

    Returns:
        `DatasetDict` or `IterableDatasetDict` of the splits.

    Raises:
        `FileNotFoundError`: if the folder has no audio, Parquet or tar files.
    """
    path = Path(name).expanduser()
    tars = _find_tars(path)
    if tars:
        return _load_tars(tars)
    if path.is_dir() and any(path.rglob("*.parquet")):
        return load_dataset("parquet", data_dir=str(path), streaming=streaming)
    if path.is_dir():
        return _load_audio_folder(path)
    if name.endswith(".parquet"):
        return load_dataset("parquet", data_files=str(path), streaming=streaming)
    return load_dataset(name, config_name, streaming=streaming)


def _find_tars(path: Path) -> list[str]:
    """The tar files of a folder or of a glob pattern."""
    if path.is_dir():
        return sorted(str(tar) for tar in path.rglob("*.tar"))
    return sorted(glob(str(path))) if path.name.endswith(".tar") else []


def _load_tars(paths: list[str]) -> IterableDatasetDict:
    stream = IterableDataset.from_generator(
        _read_tars, features=Features(audio=STORED_AUDIO), gen_kwargs={"paths": paths}
    )
    return IterableDatasetDict({"train": stream})


def _read_tars(paths: list[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            with tarfile.open(path, "r|*") as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in AUDIO_SUFFIXES:
                        yield {"audio": {"bytes": tar.extractfile(member).read(), "path": member.name}}
        except tarfile.TarError as error:
            raise ValueError(f"{path} is not a whole tar file: {error}") from error


def _load_audio_folder(root: Path) -> DatasetDict:
    files = _find_audio_files(root)
    if not files:
        raise FileNotFoundError(
            f"{root} holds no audio: there is no file ending in {', '.join(AUDIO_SUFFIXES)}, .parquet or .tar."
        )
    tops = {path.parts[0] for path in files}
    if tops <= SPLIT_FOLDERS:
        splits = {top: [path for path in files if path.parts[0] == top] for top in sorted(tops)}
        label_depth = 1
    else:
        splits = {"train": files}
        label_depth = 0
    labels = _find_labels(files, label_depth)
    return DatasetDict({split: _folder_dataset(root, paths, label_depth, labels) for split, paths in splits.items()})


def _find_audio_files(root: Path) -> list[Path]:
    """The audio files at any depth below a folder, as paths relative to it, without those that are hidden."""
    paths = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    return [
        path
        for path in paths
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.parts)
        and (root / path).is_file()
    ]


def _find_labels(files: list[Path], depth: int) -> ClassLabel | None:
    """The names of the folders at a depth, or `None` if some files lie in no such folder or all in the same one."""
    if not all(len(path.parts) > depth + 1 for path in files):
        return None
    names = sorted({path.parts[depth] for path in files})
    return ClassLabel(names=names) if len(names) > 1 else None


def _folder_dataset(root: Path, files: list[Path], label_depth: int, labels: ClassLabel | None) -> Dataset:
    columns = {"audio": [str(root / path) for path in files]}
    if labels is not None:
        columns["label"] = [path.parts[label_depth] for path in files]
    dataset = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
    return dataset if labels is None else dataset.cast_column("label", labels)


def find_audio_column(dataset: Dataset | IterableDataset, column: str | None = None) -> str:
    """
    Finds the column of a data set that holds the audio.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            The data set.
        column (`str`, *optional*):
            Name of the column. Defaults to the only one of type `Audio`, or of the type in which `datasets` stores
            that, a struct of bytes and path.

    Returns:
        `str`: the name of the column.

    Raises:
        `ValueError`: if there is no such column, or, without a name, if there is none of type `Audio` or more than
            one. The message lists the columns.
    """
    features = dataset.features or {}
    if column is not None:
        if features and column not in features:
            raise ValueError(f"The data set has no column {column!r}; its columns are {sorted(features)}.")
        return column
    found = [name for name, feature in features.items() if isinstance(feature, Audio) or feature == STORED_AUDIO]
    if len(found) != 1:
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        raise ValueError(f"Name the audio column: {len(found)} columns are of type Audio. The columns are {kinds}.")
    return found[0]


def undecoded(dataset: Dataset | IterableDataset, column: str) -> Dataset | IterableDataset:
    """Returns the data set with the audio of a column left encoded, as a dictionary of `bytes` and `path`."""
    if (dataset.features or {}).get(column) == STORED_AUDIO:
        return dataset  # a cast of a stream of stored audio, made row by row, would need torchcodec
    return dataset.cast_column(column, Audio(decode=False))
