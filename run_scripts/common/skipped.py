"""Lists of clips that a script skipped: a line for each with its kind, its name and the reason, separated by tabs."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from feature_extraction import ClipNote
from run_scripts.common.errors import UserError
from run_scripts.common.files import SAME_COMMAND, write_text


SKIPPED = "skipped.tsv"


def write_notes(path: Path, notes: Iterable[ClipNote], append: bool = False, advice: str = SAME_COMMAND) -> None:
    """Writes notes to a list, each of them once; see [`write_text`]."""
    # No field has a character that ends a field or a line.
    rows = ([re.sub(r"\s*[\t\r\n]\s*", " ", text) for text in note[:3]] for note in notes)
    lines = dict.fromkeys("\t".join(row) + "\n" for row in rows)
    write_text(path, "".join(lines), append, advice)


def read_notes(path: Path) -> list[ClipNote]:
    """Reads a list, or an empty one if there is no such file. A line that a kill cut short is left out."""
    lines = path.read_text("utf-8", errors="surrogateescape").split("\n")[:-1] if path.is_file() else []
    return [ClipNote(*fields) for line in lines if len(fields := line.split("\t")) == 3]


def count_by_kind(notes: Iterable[ClipNote]) -> Counter[str]:
    """Counts the clips that were skipped by their kind. The note of a corrupt shard stands for several."""
    counts = Counter()
    for note in notes:
        counts[note.kind] += note.num_clips
    return counts


def format_counts(counts: dict[str, int]) -> str:
    """Formats counts of clips by their kind for messages: `3 damaged, 1 empty`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()) if count) or "none"


def count_kinds(notes: Iterable[ClipNote]) -> str:
    """Counts clips that were skipped by their kind, for messages."""
    return format_counts(count_by_kind(notes))


def nothing_usable(output_dir: Path, notes: list[ClipNote]) -> UserError:
    """Makes the error of a script that has found no clip to use."""
    if not notes:
        return UserError("There are no clips: the data set has no rows.")
    return UserError(f"No clip could be used: {output_dir / SKIPPED} lists the reasons.")


def write_skipped(output_dir: Path, notes: list[ClipNote]) -> None:
    """
    Lists the clips that were skipped in `skipped.tsv`, a line for each with its kind, its file and the reason. A list
    of an earlier run is replaced, and removed if nothing was skipped.
    """
    if notes:
        write_notes(output_dir / SKIPPED, notes)
    else:
        (output_dir / SKIPPED).unlink(missing_ok=True)


class SkippedClips:
    """
    A list of clips that were skipped or are short, at a path that may exist. A clip that is met again in a later
    epoch, or after a resume, is listed once. `advice` is for the message of a full disk.
    """

    def __init__(self, path: Path, advice: str = SAME_COMMAND):
        self.path = path
        self.advice = advice
        self.listed = {(note.kind, note.name) for note in read_notes(path)}

    def add(self, notes: list[ClipNote]) -> None:
        """Adds clips to the list."""
        new = {(note.kind, note.name): note for note in notes if (note.kind, note.name) not in self.listed}
        if new:
            self.listed |= set(new)
            write_notes(self.path, new.values(), append=True, advice=self.advice)
