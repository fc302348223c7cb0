"""Any data set with an audio column, from where it lies, with its audio left encoded."""

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


STORED_AUDIO = {"bytes": Value("binary"), "path": Value("string")}
SPLIT_FOLDERS = {"train", "validation", "valid", "val", "dev", "test", "eval"}


def load_audio_dataset(
    name: str, config_name: str | None = None, streaming: bool = False
) -> DatasetDict | IterableDatasetDict:
    """
    Loads all the splits of a data set, with its audio left encoded.

    Args:
        name (`str`):
            A folder of audio files, nested at will; a folder, file or glob of Parquet, or of tar files as WebDataset
            writes them; or a data set on the Hub. Audio files have a `label` too if they lie in sub-folders: the name
            of the topmost. If all of the topmost are called like splits (`train`, `test`, ...), they are splits. Of
            tar files only the audio is read, as the split `train`, and always as a stream.
        config_name (`str`, *optional*):
            Configuration of a data set on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read shards or the Hub as a stream, without a local copy. Audio files are never copied.

    Raises:
        `FileNotFoundError`: if the folder holds no audio, Parquet or tar.
    """
    path = Path(name).expanduser()
    tars = sorted(path.rglob("*.tar")) if path.is_dir() else sorted(glob(str(path))) if name.endswith(".tar") else []
    if tars:
        stream = IterableDataset.from_generator(
            _read_tars, features=Features(audio=STORED_AUDIO), gen_kwargs={"paths": [str(tar) for tar in tars]}
        )
        return IterableDatasetDict({"train": stream})
    if path.is_dir() and not any(path.rglob("*.parquet")):
        return _load_audio_folder(path)
    if path.is_dir():
        return load_dataset("parquet", data_dir=str(path), streaming=streaming)
    if name.endswith(".parquet"):
        return load_dataset("parquet", data_files=str(path), streaming=streaming)
    return load_dataset(name, config_name, streaming=streaming)


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
    files = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    files = [
        path
        for path in files
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.parts)
        and (root / path).is_file()
    ]
    if not files:
        raise FileNotFoundError(
            f"{root} holds no audio: there is no file ending in {', '.join(AUDIO_SUFFIXES)}, .parquet or .tar."
        )
    splits, depth = {"train": files}, 0  # the depth at which the folders of the classes are
    if (tops := {path.parts[0] for path in files}) <= SPLIT_FOLDERS:
        splits = {top: [path for path in files if path.parts[0] == top] for top in sorted(tops)}
        depth = 1
    labels = None
    if all(len(path.parts) > depth + 1 for path in files):
        names = sorted({path.parts[depth] for path in files})
        labels = ClassLabel(names=names) if len(names) > 1 else None

    def to_dataset(paths: list[Path]) -> Dataset:
        columns = {"audio": [str(root / path) for path in paths]}
        if labels is not None:
            columns["label"] = [path.parts[depth] for path in paths]
        dataset = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
        return dataset if labels is None else dataset.cast_column("label", labels)

    return DatasetDict({name: to_dataset(paths) for name, paths in splits.items()})


def find_audio_column(dataset: Dataset | IterableDataset, column: str | None = None) -> str:
    """
    The name of the audio column: `column` if it is there, or the only one of type `Audio` (or of the type in which
    `datasets` stores that, a struct of bytes and path).

    Raises:
        `ValueError`: if there is none, or several and no name; the message lists the columns.
    """
    features = dataset.features or {}
    if column is not None:
        if column in features or not features:
            return column
        raise ValueError(f"The data set has no column {column!r}; its columns are {sorted(features)}.")
    found = [name for name, feature in features.items() if isinstance(feature, Audio) or feature == STORED_AUDIO]
    if len(found) != 1:
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        raise ValueError(f"Name the audio column: {len(found)} columns are of type Audio, of {kinds}.")
    return found[0]


def undecoded(dataset: Dataset | IterableDataset, column: str) -> Dataset | IterableDataset:
    """The data set with its audio left encoded, as a dictionary of `bytes` and `path`."""
    if (dataset.features or {}).get(column) == STORED_AUDIO:  # what `datasets` casts row by row needs torchcodec
        return dataset
    return dataset.cast_column(column, Audio(decode=False))
