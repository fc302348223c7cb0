"""Folders of audio files: which files they have, and which of their sub-folders are splits and which are classes."""

import logging
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, DatasetDict

from .audio import AUDIO_SUFFIXES, decodable_suffixes
from .audio_source import storable_name
from .errors import DataError, MissingDataError
from .ffmpeg import FFMPEG_SUFFIXES
from .tables import METADATA_FILES, SPLITS_BY_NAME, encode_classes, read_table


logger = logging.getLogger(__name__)


def list_files(root: Path) -> list[Path]:
    """Lists the files at any depth below a folder, as paths relative to it, without those that are hidden."""
    files = []
    for folder, folder_names, names in os.walk(root, onerror=_warn_of_folder):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
        for name in folder_names:
            if os.path.islink(os.path.join(folder, name)):
                logger.warning(f"The folder {os.path.join(folder, name)} is left out because it is a symbolic link.")
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        files += [path.relative_to(root) for path in paths if path.is_file()]
    return sorted(files)


def _warn_of_folder(error: OSError) -> None:
    logger.warning(f"The folder {error.filename} is left out because it cannot be read: {error.strerror}.")


def load_audio_folder(root: Path, files: list[Path]) -> DatasetDict:
    """
    Makes a data set of the audio files of a folder.

    Args:
        root (`Path`):
            The folder.
        files (`list[Path]`):
            All its files, as [`list_files`] gives them.

    Returns:
        `DatasetDict`: the splits, with a `label` if the files lie in folders of classes.

    Raises:
        `FileNotFoundError`: if there is no audio among the files.
    """
    suffixes = decodable_suffixes()
    unsupported = [path for path in files if path.suffix.lower() in set(FFMPEG_SUFFIXES) - set(suffixes)]
    audio = [path for path in files if path.suffix.lower() in suffixes]
    if not audio:
        raise MissingDataError(
            f"{root} holds no audio: there is no file ending in {', '.join(AUDIO_SUFFIXES)}, .parquet or .tar."
            + (f" {_describe_unsupported(unsupported)}" if unsupported else "")
        )
    if unsupported:
        logger.warning(f"{root}: {_describe_unsupported(unsupported)}")
    metadata = _read_metadata(root, files)
    if metadata is not None:
        audio = _select_listed(root, audio, metadata["audio"].to_pylist())
    splits, label_depth = _find_splits(root, audio)
    labels = None
    if metadata is None or "label" not in metadata.column_names:
        labels = _find_labels(root, [path for paths in splits.values() for path in paths], label_depth)
    datasets = {split: _folder_dataset(root, paths, label_depth, labels, metadata) for split, paths in splits.items()}
    return encode_classes(DatasetDict(datasets)) if labels is None else DatasetDict(datasets)


def _read_metadata(root: Path, files: list[Path]) -> pa.Table | None:
    """Reads the metadata in a folder of audio as one table, `None` if there is none."""
    tables, listed_in = [], {}
    for path in files:
        if path.name in METADATA_FILES:
            try:
                tables.append(read_table(root / path))
            except ValueError as error:
                logger.warning(f"The metadata are left out: {error}")
                continue
            counts = Counter(tables[-1]["audio"].to_pylist())
            name, count = counts.most_common(1)[0] if counts else ("", 0)
            if count > 1:
                raise DataError(f"{root / path} has {count} rows for the file {name}: keep one for each file.")
            if twice := counts.keys() & listed_in.keys():
                name = min(twice)
                raise DataError(f"{root / path} and {listed_in[name]} both have a row for the file {name}: keep one.")
            listed_in |= dict.fromkeys(counts, root / path)
    try:
        return pa.concat_tables(tables, promote_options="permissive") if tables else None
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"The metadata in {root} cannot be read together: {error}") from error


def _select_listed(root: Path, audio: list[Path], listed: list[str]) -> list[Path]:
    """Selects the audio files that the metadata list."""
    names = set(listed)
    chosen = [path for path in audio if storable_name(root / path) in names]
    if not chosen:
        raise MissingDataError(f"The metadata in {root} list no audio file that is there, for example {listed[:1]}.")
    if len(chosen) < len(audio):
        logger.warning(f"{root}: {len(audio) - len(chosen)} audio files are left out, which the metadata do not list.")
    if missing := len(names) - len(chosen):
        logger.warning(f"{root}: {missing} files that the metadata list are not there.")
    return chosen


def _describe_unsupported(files: list[Path]) -> str:
    counts = Counter(path.suffix.lower() for path in files)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return (
        f"Unsupported audio is left out ({listed}; for example {files[0]}): install the program ffmpeg, which decodes "
        "it, or convert it, for example to .flac."
    )


def _find_splits(root: Path, files: list[Path]) -> tuple[dict[str, list[Path]], int]:
    """Returns the files of each split, and how deep in a path the name of its class is."""
    folders = {path.parts[0] for path in files if len(path.parts) > 1}
    named_like_splits = {folder for folder in folders if folder.lower() in SPLITS_BY_NAME}
    if not folders or named_like_splits < folders:
        if named_like_splits:
            others = sorted(folders - named_like_splits)
            logger.warning(
                f"{root}: the folders {', '.join(sorted(named_like_splits))} are read as classes, not as splits, "
                f"because there are other folders, such as {others[0]}, beside them."
            )
        return {"train": files}, 0
    splits = {}
    for path in files:
        if len(path.parts) > 1:
            splits.setdefault(SPLITS_BY_NAME[path.parts[0].lower()], []).append(path)
    strays = [path for path in files if len(path.parts) == 1]
    if strays:
        logger.warning(f"{root}: {len(strays)} files beside the splits are left out, for example {strays[0]}.")
    return dict(sorted(splits.items())), 1


def _find_labels(root: Path, files: list[Path], depth: int) -> ClassLabel | None:
    """The names of the folders at a depth, or `None` if some files lie in no such folder or all in the same one."""
    strays = [path for path in files if len(path.parts) <= depth + 1]
    names = sorted({storable_name(path.parts[depth]) for path in files if len(path.parts) > depth + 1})
    if len(names) < 2:
        return None
    if strays:
        logger.warning(
            f"{root}: no clip has a label, because {len(strays)} audio files lie beside the folders of the "
            f"{len(names)} classes, for example {strays[0]}. Move them into a folder of their class, or elsewhere."
        )
        return None
    return ClassLabel(names=names)


def _folder_dataset(
    root: Path, files: list[Path], label_depth: int, labels: ClassLabel | None, metadata: pa.Table | None
) -> Dataset:
    names = [storable_name(root / path) for path in files]
    columns = pa.table({"audio": pa.array(names, pa.string())})
    if labels is not None:
        columns = columns.append_column("label", [[storable_name(path.parts[label_depth]) for path in files]])
    if metadata is not None:
        rows = {name: row for row, name in enumerate(metadata["audio"].to_pylist())}
        listed = metadata.take([rows[name] for name in names]).drop_columns("audio")
        for name in listed.column_names:
            columns = columns.append_column(name, listed[name])
    dataset = Dataset(columns).cast_column("audio", Audio(decode=False))
    return dataset if labels is None else dataset.cast_column("label", labels)
