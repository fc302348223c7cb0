"""Loading of data sets that have an audio column, with the audio left encoded."""

import logging
import os
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import datasets
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.packaged_modules.parquet.parquet import Parquet
from huggingface_hub import HfApi
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import validate_repo_id

from .audio import AUDIO_SUFFIXES, decodable_suffixes
from .audio_folder import list_files, load_audio_folder
from .errors import DataError, MissingDataError
from .ffmpeg import FFMPEG_SUFFIXES
from .parquet import build_parquet, check_paths, require_names
from .tables import METADATA_FILES, TABLE_SUFFIXES, load_tables
from .tars import STORED_AUDIO, load_tars


logger = logging.getLogger(__name__)

# A name with one of these endings is that of a file.
FILE_SUFFIXES = (*AUDIO_SUFFIXES, *FFMPEG_SUFFIXES, *TABLE_SUFFIXES, ".gz", ".zip")

# One of these files is in a folder that `save_to_disk` has written: of all splits, or of one.
SAVED = ("dataset_dict.json", "state.json")

# How long the Hub may take to say whether it has a data set.
LOOK_UP_SECONDS = 10

# How many names of classes `describe_splits` lists.
CLASSES_SHOWN = 5


def load_audio_dataset(
    name: str,
    config_name: str | None = None,
    streaming: bool = False,
    allow_remote_audio: bool = False,
    audio_column: str | None = None,
) -> DatasetDict | IterableDatasetDict:
    """
    Loads all the splits of a data set, with the audio left encoded.

    Args:
        name (`str`):
            One of

            - a folder of audio files, at any depth. If they lie in sub-folders, each has a `label`, the name of the
              topmost one. If all the topmost folders have names of splits as `datasets` knows them (`train`,
              `Training`, `dev`, `test` and so on), they are the splits `train`, `validation` and `test`, and the
              folders inside them are the labels. If the folder has a `metadata.csv`, `.jsonl` or `.parquet` with a
              column `file_name`, as `datasets` reads it, the files that it lists are read, with its columns;
            - a single audio file;
            - a file or a glob pattern of CSV (`.csv`, `.tsv`), JSON Lines (`.json`, `.jsonl`) or plain lists of paths
              (`.txt`), as [`load_tables`] reads them;
            - a folder that `save_to_disk` of `datasets` has written;
            - a folder, a file or a glob pattern of Parquet;
            - a folder, a file or a glob pattern of tar files as WebDataset writes them, as [`load_tars`] reads them,
              always as a stream;
            - a data set on the Hub.

            Of a folder that has several of these, the kind is read that most of its files are of.
        config_name (`str`, *optional*):
            The configuration of a data set on the Hub.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read Parquet or the Hub as a stream rather than make a local copy first. Audio files are never
            copied.
        allow_remote_audio (`bool`, *optional*, defaults to `False`):
            Whether rows that name an audio file, and do not hold it, may name any file and any URL. By default they
            may name files below the data set's own folder. A list in a `.txt` file may name any.
        audio_column (`str`, *optional*):
            A column that is read as audio although it is of another type, such as text that names files. Which files
            its rows may name is checked as for the others.

    Returns:
        `DatasetDict` or `IterableDatasetDict` of the splits.

    Raises:
        `FileNotFoundError`: if there is nothing of this name, or if the folder has no audio, Parquet or tar files.
        `ValueError`: if the name is empty or that of a file of another kind, or if a table cannot be read.
        `PermissionError`: if a row names a file that is not allowed. A stream raises it when it is read.
    """
    if not name.strip():
        raise DataError(
            "The name of the data set (--dataset_name) is empty: pass a folder, a Parquet or tar file, or the name of "
            "a data set on the Hub."
        )
    if _is_on_hub(name):
        return _load_from_hub(name, config_name, streaming, allow_remote_audio, audio_column)
    roots = None if allow_remote_audio else [_folder_of(name)]
    return _with_audio_column(_load_files(name, roots, streaming, audio_column), audio_column, roots, name)


def _is_on_hub(name: str) -> bool:
    """
    Whether a name is that of a data set on the Hub, rather than of files.

    Raises:
        `FileNotFoundError`: if it can be neither.
    """
    path = Path(name).expanduser()
    if path.exists() or path.suffix in (".tar", ".parquet", *TABLE_SUFFIXES):
        return False
    if is_path(name):
        raise MissingDataError(f"There is no file or folder {name}.")
    return True


def _load_files(
    name: str, roots: list[str] | None, streaming: bool, audio_column: str | None
) -> DatasetDict | IterableDatasetDict:
    path = Path(name).expanduser()
    if path.is_dir() and any((path / marker).exists() for marker in SAVED):
        saved = load_from_disk(str(path))
        splits = saved if isinstance(saved, DatasetDict) else DatasetDict({str(saved.split or "train"): saved})
        return _checked(splits, roots, name)
    if path.is_dir():
        return _load_folder(path, roots, streaming, audio_column)
    if path.suffix == ".tar" and "://" not in name:
        return load_tars(_match(path))
    if path.suffix in TABLE_SUFFIXES and "://" not in name:
        splits = load_tables(_match(path))
        # A plain list of paths was written by the user, who may name any file. Other tables may come with a data set
        # of somebody else, and may name only files in its folder.
        return splits if path.suffix == ".txt" else _checked(splits, roots, name)
    if path.suffix.lower() in AUDIO_SUFFIXES + FFMPEG_SUFFIXES and path.is_file():
        return load_audio_folder(path.parent, [Path(path.name)])
    if path.suffix == ".parquet":
        if "://" not in name:
            _match(path)
        files = {"data_files": name if "://" in name else str(path)}
        return _load_parquet(name, roots, streaming, audio_column, **files)
    if path.exists():
        raise DataError(
            f"{path} is neither audio nor CSV, JSON Lines, a list in a .txt file, Parquet or tar: pass one of these, "
            "or its folder."
        )
    raise MissingDataError(f"There is no file or folder {name}.")


def _match(path: Path) -> list[str]:
    paths = sorted(glob(str(path), recursive=True))
    if not paths:
        raise MissingDataError(f"There is no file {path}.")
    return paths


def _folder_of(name: str) -> str:
    """The folder itself, that of a file, or the one that has all the files of a glob pattern."""
    folder = name if os.path.isdir(os.path.expanduser(name)) else os.path.dirname(name)
    while has_magic(folder):
        folder = os.path.dirname(folder)
    return f"{folder}/" if "://" in name else os.path.expanduser(folder) or "."


def _checked(splits: DatasetDict, roots: list[str] | None, name: str) -> DatasetDict:
    """Returns the splits, after a check that their rows name no other files than those in `roots`."""
    for dataset in splits.values():
        check_paths(dataset.data.table, roots, name)
    return splits


def _with_audio_column(
    splits: DatasetDict | IterableDatasetDict, column: str | None, roots: list[str] | None, name: str
) -> DatasetDict | IterableDatasetDict:
    """
    Casts a column to audio if it is of another type, after a check of the files that it names. In a stream, it is of
    that type already.
    """
    if isinstance(splits, IterableDatasetDict):
        return splits
    for split, dataset in splits.items():
        if column in dataset.column_names and not _is_audio(dataset.features[column]):
            require_names(dataset.features.arrow_schema.field(column), name)
            splits[split] = dataset.cast_column(column, Audio(decode=False))
            check_paths(splits[split].select_columns([column]).data.table, roots, name)
    return splits


def _is_audio(feature: Any) -> bool:
    return isinstance(feature, Audio) or feature == STORED_AUDIO


def is_path(name: str) -> bool:
    """Whether a name, of which there is no file, cannot be that of a data set or a model on the Hub."""
    if name.startswith((".", "/", "~")) or name.lower().endswith(FILE_SUFFIXES):
        return True
    try:
        validate_repo_id(name)
    except HFValidationError:
        return True
    return False


def _load_folder(
    root: Path, roots: list[str] | None, streaming: bool, audio_column: str | None
) -> DatasetDict | IterableDatasetDict:
    """Loads the kind of data that most files of a folder are of: tar files, Parquet files or audio files."""
    files = list_files(root)
    by_kind = {
        "tar files": [path for path in files if path.suffix == ".tar"],
        "Parquet files": [path for path in files if path.suffix == ".parquet" and path.name not in METADATA_FILES],
        "audio files": [path for path in files if path.suffix.lower() in decodable_suffixes()],
    }
    kind = max(by_kind, key=lambda kind: len(by_kind[kind]))
    for other, paths in by_kind.items():
        if paths and other != kind:
            logger.warning(
                f"{root}: {len(by_kind[kind])} {kind} are read, and {len(paths)} {other} are not, for example "
                f"{paths[0]}. To read these, pass a folder that has no other data."
            )
    if kind == "tar files" and by_kind[kind]:
        return load_tars([str(root / path) for path in by_kind[kind]])
    if kind == "Parquet files":
        return _load_parquet(str(root), roots, streaming, audio_column, data_dir=str(root))
    return load_audio_folder(root, files)


def _load_parquet(
    name: str, roots: list[str] | None, streaming: bool, audio_column: str | None, **files: str
) -> DatasetDict | IterableDatasetDict:
    """Loads Parquet files. Their rows may name audio files in `roots`, or anywhere if there are none."""
    builder = load_dataset_builder("parquet", **files)
    if streaming:
        return build_parquet(builder, roots, name, audio_column).as_streaming_dataset()
    builder = build_parquet(builder, None, name)
    # The check of `datasets` would compare the numbers of rows, which differ if clips are lost.
    builder.download_and_prepare(verification_mode="no_checks")
    return _checked(builder.as_dataset(), roots, name)


def _load_from_hub(
    name: str, config_name: str | None, streaming: bool, allow_remote_audio: bool, audio_column: str | None
) -> DatasetDict | IterableDatasetDict:
    # The files of a data set on the Hub are URLs for a stream, and otherwise copies in a cache.
    roots = [f"hf://datasets/{name}@", f"hf://datasets/{name}/", str(datasets.config.HF_DATASETS_CACHE), HF_HUB_CACHE]
    roots = None if allow_remote_audio else roots
    try:
        look_up_on_hub(name)
        if not streaming:
            return _with_audio_column(
                _checked(load_dataset(name, config_name), roots, name), audio_column, roots, name
            )
        builder = load_dataset_builder(name, config_name)
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError) as error:
        raise MissingDataError(
            f"There is no folder {name}, and no data set of this name could be loaded from the Hub: {error}"
        ) from error
    if isinstance(builder, Parquet):
        builder = build_parquet(builder, roots, name, audio_column)
    return builder.as_streaming_dataset()


def look_up_on_hub(name: str, repo_type: str = "dataset") -> None:
    """
    Asks the Hub once whether it has a data set or a model that was never loaded here. `load_dataset` and
    `from_pretrained` would repeat the question for half a minute or more before they reported a mistyped path.

    Raises:
        `ConnectionError`: if the Hub does not have it, or cannot be reached.
    """
    if not (Path(HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=repo_type)).exists():
        try:
            HfApi().repo_info(name, repo_type=repo_type, timeout=LOOK_UP_SECONDS)
        except Exception as error:  # of the HTTP library, which differs between versions of huggingface_hub
            raise ConnectionError(str(error)) from error


def describe_splits(splits: DatasetDict | IterableDatasetDict) -> str:
    """
    Describes the splits of a data set in one line: how many clips and which classes each of them has.

    Args:
        splits (`DatasetDict` or `IterableDatasetDict`):
            What [`load_audio_dataset`] returns.

    Returns:
        `str`: for example `"train: 24 clips, 2 classes (cat, dog); test: a stream of 4 shards, no classes"`.
    """
    return "; ".join(f"{split}: {_describe_split(dataset)}" for split, dataset in splits.items())


def _describe_split(dataset: Dataset | IterableDataset) -> str:
    is_stream = isinstance(dataset, IterableDataset)
    clips = f"a stream of {dataset.num_shards} shards" if is_stream else f"{len(dataset)} clips"
    features = dataset.features or {}
    labels = features.get("label", next((f for f in features.values() if isinstance(f, ClassLabel)), None))
    if not isinstance(labels, ClassLabel):
        return f"{clips}, no classes"
    shown = labels.names[:CLASSES_SHOWN] + ["..."] * (len(labels.names) > CLASSES_SHOWN)
    return f"{clips}, {len(labels.names)} classes ({', '.join(shown)})"


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
            raise DataError(f"The data set has no column {column!r}; its columns are {sorted(features)}.")
        # What its rows may open was not checked.
        if features and not _is_audio(features[column]):
            raise DataError(
                f"The column {column!r} is of type {type(features[column]).__name__}, not Audio: load the data set "
                "with audio_column to read the files that it names, or cast it to Audio."
            )
        return column
    found = [name for name, feature in features.items() if _is_audio(feature)]
    if len(found) != 1:
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        raise DataError(f"Name the audio column: {len(found)} columns are of type Audio. The columns are {kinds}.")
    return found[0]


def undecoded(dataset: Dataset | IterableDataset, column: str) -> Dataset | IterableDataset:
    """Returns the data set with the audio of a column left encoded, as a dictionary of `bytes` and `path`."""
    if (dataset.features or {}).get(column) == STORED_AUDIO:
        return dataset  # a cast of a stream of stored audio, made row by row, would need torchcodec
    return dataset.cast_column(column, Audio(decode=False))
