"""The list of clips that a run could not use, or only with padding."""

from pathlib import Path

from feature_extraction import ClipNote
from run_scripts.common.errors import UserError
from run_scripts.common.skipped import read_notes, write_notes
from run_scripts.pretraining.checkpointing import RESUME


# Fewer clips than this say nothing about the share of bad ones.
MIN_CLIPS_TO_JUDGE = 200
# The clips of a corrupt shard are lost together, so that it takes more clips than so many shards have.
MIN_SHARDS_TO_JUDGE = 20


class SkippedClips:
    """
    A file of tab-separated lines, one for each clip that was skipped or is short: kind, name and reason. A clip that
    is met again in a later epoch, or after a resume, is listed once.

    Args:
        path (`Path`):
            The file, which may exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.listed = {(note.kind, note.name) for note in read_notes(path)}

    def add(self, notes: list[ClipNote]) -> None:
        """
        Adds clips to the list.

        Raises:
            `OSError`: if it cannot be written.
        """
        new = {(note.kind, note.name): note for note in notes if (note.kind, note.name) not in self.listed}
        if new:
            self.listed |= set(new)
            write_notes(self.path, new.values(), append=True, advice=RESUME)


def check_bad_fraction(
    num_clips: int, num_bad: int, largest_loss: int, max_bad_fraction: float, output_dir: Path
) -> None:
    """
    Checks that few enough of the clips read so far had to be skipped.

    Args:
        num_clips, num_bad (`int`):
            How many clips were read, and how many of them were skipped.
        largest_loss (`int`):
            How many were skipped together at most, in a corrupt shard.
        max_bad_fraction (`float`):
            The greatest share that may be skipped.
        output_dir (`Path`):
            The folder that has the lists of skipped clips.

    Raises:
        `ValueError`: if their share is greater.
    """
    is_enough = num_clips >= max(MIN_CLIPS_TO_JUDGE, MIN_SHARDS_TO_JUDGE * largest_loss)
    if is_enough and num_bad > max_bad_fraction * num_clips:
        raise UserError(
            f"{num_bad} of {num_clips} clips cannot be used, more than --max_bad_fraction {max_bad_fraction}: "
            f"{output_dir}/skipped_*.tsv lists them. Earlier checkpoints are kept."
        )
