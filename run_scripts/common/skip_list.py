"""Lists of clips that a job skipped: a line for each with its kind, its name and the reason, separated by tabs."""

import re
from collections.abc import Iterable
from pathlib import Path

from feature_extraction import ClipNote
from run_scripts.common.disk import SAME_COMMAND, write_text


def write_notes(path: Path, notes: Iterable[ClipNote], append: bool = False, advice: str = SAME_COMMAND) -> None:
    """
    Writes notes to a list, each of them once. The arguments are those of [`write_text`].

    Raises:
        `OSError`: If it cannot be written. If the disk is full, the message says how much room is missing.
    """
    lines = dict.fromkeys("\t".join(map(_one_field, note[:3])) + "\n" for note in notes)
    write_text(path, "".join(lines), append, advice)


def read_notes(path: Path) -> list[ClipNote]:
    """Reads a list, or an empty one if there is no such file. A line that a kill cut short is left out."""
    lines = path.read_text("utf-8", errors="surrogateescape").split("\n")[:-1] if path.is_file() else []
    return [ClipNote(*fields) for line in lines if len(fields := line.split("\t")) == 3]


def _one_field(text: str) -> str:
    """A text without the characters that end a field or a line."""
    return re.sub(r"\s*[\t\r\n]\s*", " ", text)
