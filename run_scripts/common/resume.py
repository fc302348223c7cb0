"""Resuming: the progress that a run saves, and the check that its settings are still the same."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from feature_extraction import ClipNote, Position
from run_scripts.common.errors import UserError
from run_scripts.common.files import remove_temporary_files, write_json


logger = logging.getLogger(__name__)

PROGRESS_DIR = ".progress"


@dataclass
class Part:
    """
    The progress on one part of a run. It is saved each time a file of the output is whole, so that all files that it
    lists exist whenever the run is stopped.

    Args:
        position (`Position`), is_done (`bool`):
            Where in the source to go on, and whether that is the end of what the part reads.
        files (`list[str]`):
            The names of its files in the output folder.
        num_read, num_clips (`int`), seconds (`float`):
            How many clips were read, those that were skipped included; how many were written, and their length.
        skipped (`list[ClipNote]`):
            The clips that were skipped.
    """

    position: Position = Position()
    is_done: bool = False
    files: list[str] = field(default_factory=list)
    num_read: int = 0
    num_clips: int = 0
    seconds: float = 0.0
    skipped: list[ClipNote] = field(default_factory=list)

    def __post_init__(self) -> None:
        # JSON keeps named tuples as lists.
        self.position = Position(*self.position)
        self.skipped = [ClipNote(*note) for note in self.skipped]


def is_whole(parts: list[Part]) -> bool:
    """Whether the parts of a sequence reach the end of what it reads."""
    return bool(parts) and parts[-1].is_done


class PartStore:
    """
    The progress of a run, a JSON file for each of its parts, in a folder inside the output folder. If the run has
    several sequences of parts, which are written independently of each other, `sequence` is the number of one of them.
    """

    def __init__(self, output_dir: Path, sequence: int | None = None):
        self.output_dir = output_dir
        self.folder = output_dir / PROGRESS_DIR
        self._prefix = "part" if sequence is None else f"part-{sequence:05}"

    def name(self, number: int) -> str:
        """The name of a part."""
        return f"{self._prefix}-{number:05}"

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.name(number)}.json"

    def load(self, number: int) -> Part:
        """Loads the progress on a part. If one of its files has been removed, the part starts from the beginning."""
        path = self._path(number)
        part = Part(**json.loads(path.read_text())) if path.exists() else Part()
        return part if all((self.output_dir / name).exists() for name in part.files) else Part()

    def load_sequence(self) -> list[Part]:
        """Loads the parts of a sequence, which are written one after another, up to the first that is not there."""
        return list(takewhile(lambda part: part.files, map(self.load, count())))

    def save(self, number: int, part: Part) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(number), asdict(part))

    def remove_from(self, number: int) -> None:
        """Removes the parts of a sequence from a number on, with their files."""
        paths = sorted(self.folder.glob(f"{self._prefix}-*.json"))
        for path in (path for path in paths if path.name >= self._path(number).name):
            names = json.loads(path.read_text())["files"]
            missing = [name for name in names if not (self.output_dir / name).exists()]
            if missing:
                logger.warning(f"Missing in {self.output_dir}: {', '.join(missing)}: the run continues from there.")
            for name in names:
                (self.output_dir / name).unlink(missing_ok=True)
            path.unlink()

    def remove_temporary_files(self) -> None:
        """Removes what a run that was killed had begun to write."""
        for folder in (self.output_dir, self.folder):
            remove_temporary_files(folder)


def find_checkpoints(output_dir: Path) -> list[Path]:
    """The folders `checkpoint-<step>` in `output_dir`, whole or not, in the order of their steps."""
    found = [path for path in output_dir.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def find_newest_whole(checkpoints: list[Path], find_damage: Callable[[Path], str | None]) -> Path | None:
    """Finds the last checkpoint that is not damaged, if there is any, and warns of those that it passes over."""
    for checkpoint in reversed(checkpoints):
        damage = find_damage(checkpoint)
        if damage is None:
            return checkpoint
        logger.warning(f"{checkpoint} is damaged ({damage}): falling back to the one before it.")
    return None


def check_settings(
    path: Path,
    earlier: dict[str, Any],
    settings: dict[str, Any],
    advice: str = "Use the same settings to resume it, or choose another folder.",
) -> None:
    """
    Checks that a run has the settings of the earlier one that it resumes, which were read from JSON, and whose output
    folder or checkpoint is at `path`. Settings that only the earlier run has are not compared.

    Raises:
        [`UserError`]: If they differ. The message names the differences, and ends with the `advice`.
    """
    differences = [
        f"{name} was {earlier.get(name)} and is now {value}"
        for name, value in json.loads(json.dumps(settings)).items()
        if earlier.get(name) != value
    ]
    if differences:
        raise UserError(f"{path} contains a run with other settings: {'; '.join(differences)}. {advice}")
