"""The paper's downstream tasks as labelled data sets: what a task is, how it is split, and how its files are found."""

import inspect
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from run_scripts.common.errors import MissingFileError, UserError


if TYPE_CHECKING:  # `datasets` is loaded with the first task, so that --help, which lists the tasks, is quick
    from datasets import DatasetDict


logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.1, 0.2)
SHARES_WITHOUT_TEST = (7 / 8, 1 / 8, 0.0)  # if the test split is given, the rest keeps the ratio of 7 to 1
SEED = 0


class TaskClip(NamedTuple):
    """A labelled clip of a data set."""

    split: str
    audio: str | bytes  # a path, a URL, or the contents of an audio file
    label: str


# What a loader returns: the names of all classes, in the order of their numbers, and the clips of all splits.
Clips = tuple[list[str], list[TaskClip]]


@dataclass(frozen=True)
class Task:
    """
    A downstream task of the paper (arXiv 2010.10915).

    Args:
        name (`str`):
            The name of the task, which is its key in `TASKS`.
        num_classes (`int`):
            Number of classes of the complete data set.
        accuracies (`dict[str, float]`):
            Test accuracy in % that the paper reports in each mode of `run_classification.py`.
        homepage (`str`):
            Where to download the data set.
        licence (`str`):
            The licence of the data set.
        layout (`str`):
            The files that the folder of the data set must contain.
        loader (`Callable[..., Clips]`):
            The function that reads that folder. Its docstring explains the splits.
    """

    name: str
    num_classes: int
    accuracies: dict[str, float]
    homepage: str
    licence: str
    layout: str
    loader: Callable[..., Clips]

    @property
    def splits(self) -> str:
        """How the data set is split, and how that differs from prior work."""
        return inspect.getdoc(self.loader)

    def load(self, data_dir: str | os.PathLike, **options: Any) -> "DatasetDict":
        """
        Finds the clips of each split. No audio is decoded or copied until a row is read.

        Args:
            data_dir (`str` or `os.PathLike`):
                The folder of the data set, with the files that `layout` describes.
            **options:
                Options of the loader: `test_set_dir` for Speech Commands V1 and `held_out_set` for the bird detection
                task. `splits` explains them.

        Returns:
            `DatasetDict`: The splits `train`, `validation` and `test`, with the columns `audio` (encoded) and `label`
            (a `ClassLabel`). The same folder gives the same splits on every machine.

        Raises:
            `FileNotFoundError`: if files are missing. The message names the first of them and the expected layout.
            `ValueError`: if the contents of a file are not as expected.
        """
        root = Path(data_dir).expanduser().absolute()
        try:
            names, clips = self.loader(root, **options)
            by_split = {split: [clip for clip in clips if clip.split == split] for split in SPLITS}
            for split, part in by_split.items():
                if not part:
                    raise MissingFileError(
                        f"{root} contains no clips for the split {split} (clips in all: {len(clips)})."
                    )
        except FileNotFoundError as error:
            message = f"{self.name}: {error}\nThe folder must contain {self.layout}.\nDownload: {self.homepage}"
            raise MissingFileError(message) from None
        if len(names) != self.num_classes:
            logger.warning(
                f"{self.name}: {root} has {len(names)} classes of {self.num_classes}, so accuracies on it are not "
                "comparable with the published ones."
            )
        return _to_datasets(by_split, names)


def _to_datasets(clips_by_split: dict[str, list[TaskClip]], names: list[str]) -> "DatasetDict":
    """Makes a data set of the clips of each split, with their audio left encoded."""
    from datasets import Audio, ClassLabel, Dataset, DatasetDict

    numbers = {name: number for number, name in enumerate(names)}
    splits = {}
    for split, clips in clips_by_split.items():
        sources = []
        for clip in clips:
            if clip.label not in numbers:
                raise UserError(f"{clip.audio} has the label {clip.label!r}, which is none of {', '.join(names)}.")
            if isinstance(clip.audio, bytes):
                sources.append({"bytes": clip.audio, "path": None})
            else:
                sources.append({"bytes": None, "path": clip.audio})
        dataset = Dataset.from_dict({"audio": sources, "label": [numbers[clip.label] for clip in clips]})
        dataset = dataset.cast_column("audio", Audio(decode=False))
        splits[split] = dataset.cast_column("label", ClassLabel(names=names))
    return DatasetDict(splits)


def inner_folder(root: Path, name: str) -> Path:
    """Returns the folder `name` inside `root`, or `root` itself if there is none: users may give either of them."""
    return root / name if (root / name).is_dir() else root


def find_files(root: Path, pattern: str) -> list[str]:
    """
    Finds the files that match a glob pattern, and returns their paths relative to `root`, with `/` as the separator,
    sorted so that the order is the same on every machine. Hidden files are skipped, such as the `._a.wav` that macOS
    leaves next to `a.wav`. It is a [`MissingFileError`] if no file matches.
    """
    found = sorted(path.relative_to(root).as_posix() for path in root.glob(pattern) if not path.name.startswith("."))
    if not found:
        raise MissingFileError(f"{root} contains no {pattern}.")
    return found


def require_files(root: Path, wanted: Iterable[str], found: Iterable[str]) -> None:
    """
    Checks that all the wanted files or folders of `root` were found. The error names the first three that were not.
    """
    missing = sorted(set(wanted).difference(found))
    if missing:
        examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise MissingFileError(f"{root} lacks {len(missing)} of its files or folders: {examples}.")


def seeded_splits(names: Iterable[str], shares: tuple[float, float, float] = SHARES) -> dict[str, str]:
    """
    Assigns each name, of a clip, speaker or location, to the training, validation or test split at random, from a
    fixed seed, in these shares. The order of the names and duplicates do not matter.
    """
    names = sorted(set(names))
    np.random.default_rng(SEED).shuffle(names)
    num_validation, num_test = (round(share * len(names)) for share in shares[1:])
    splits = ["validation"] * num_validation + ["test"] * num_test
    return dict(zip(names, splits + ["train"] * (len(names) - len(splits))))
