"""Folders of audio files: which files they have, and which of their sub-folders are splits and which are classes."""

import logging
import os
from collections import Counter
from pathlib import Path

from datasets import Audio, ClassLabel, Dataset, DatasetDict
from datasets.data_files import SPLIT_KEYWORDS

from .audio import AUDIO_SUFFIXES
from .audio_source import storable_name


logger = logging.getLogger(__name__)

# Audio, and videos with sound, that soundfile cannot decode.
UNSUPPORTED_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".aac", ".wma", ".webm", ".mka", ".3gp", ".amr", ".ape", ".wv", ".tta", ".mpc"),
    *(".ac3", ".dts", ".ra", ".spx", ".dsf"),
)

# Folders of audio files with these names, in any case, are splits, not classes.
SPLITS_BY_NAME = {keyword: str(split) for split, keywords in SPLIT_KEYWORDS.items() for keyword in keywords}

METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def list_files(root: Path) -> list[Path]:
    """Lists the files at any depth below a folder, as paths relative to it, without those that are hidden."""
    files = []
    for folder, folder_names, names in os.walk(root, onerror=_warn_of_folder):
        folder_names[:] = [name for name in folder_names if not name.startswith(".")]
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
    unsupported = [path for path in files if path.suffix.lower() in UNSUPPORTED_SUFFIXES]
    audio = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise FileNotFoundError(
            f"{root} holds no audio: there is no file ending in {', '.join(AUDIO_SUFFIXES)}, .parquet or .tar."
            + (f" {_describe_unsupported(unsupported)}" if unsupported else "")
        )
    if unsupported:
        logger.warning(f"{root}: {_describe_unsupported(unsupported)}")
    for path in files:
        if path.name in METADATA_FILES:
            logger.warning(
                f"{root / path} is not read: the labels of a folder of audio are the names of its folders. To use the "
                "columns of this file, load the folder with `datasets.load_dataset('audiofolder', data_dir=...)` and "
                "write it with `to_parquet`."
            )
    splits, label_depth = _find_splits(root, audio)
    labels = _find_labels(root, [path for paths in splits.values() for path in paths], label_depth)
    return DatasetDict({split: _folder_dataset(root, paths, label_depth, labels) for split, paths in splits.items()})


def _describe_unsupported(files: list[Path]) -> str:
    counts = Counter(path.suffix.lower() for path in files)
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return f"Unsupported audio is left out ({listed}; for example {files[0]}): convert it, for example to .flac."


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


def _folder_dataset(root: Path, files: list[Path], label_depth: int, labels: ClassLabel | None) -> Dataset:
    columns = {"audio": [storable_name(root / path) for path in files]}
    if labels is not None:
        columns["label"] = [storable_name(path.parts[label_depth]) for path in files]
    dataset = Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
    return dataset if labels is None else dataset.cast_column("label", labels)
