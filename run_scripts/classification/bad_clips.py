"""Labelled clips that cannot be used: finding them, leaving them out, and listing them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm.auto import tqdm

from feature_extraction import BadClipError, ClipNote, find_audio_column, load_audio, undecoded
from run_scripts.common.errors import UserError, describe
from run_scripts.embedding.cache import hash_clips


# The bad clips of data that this process has checked, by row, and by the data: the benchmark trains several
# classifiers on the same clips.
_checked: dict[tuple[str, str], dict[int, ClipNote]] = {}


class _ClipCheck(TorchDataset):
    """Decodes a clip when it is accessed, and returns a note of what is wrong with it, or `None`."""

    def __init__(self, dataset: Dataset, audio_column: str, name: str):
        self.rows = undecoded(dataset.select_columns([audio_column]), audio_column)
        self.audio_column, self.name = audio_column, name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> ClipNote | None:
        source = self.rows[i][self.audio_column]
        try:
            load_audio(source)
        except BadClipError as error:
            path = (source or {}).get("path")
            return ClipNote(error.kind, path or f"{self.name}, row {i}", str(error), error.num_clips)
        return None


def find_bad_clips(dataset: Dataset, audio_column: str, name: str, num_workers: int = 0) -> dict[int, ClipNote]:
    """
    Decodes all clips of a data set and returns notes of those that cannot be used, by their rows. The notes call clips
    without a path by the name of the data set.
    """
    key = dataset._fingerprint, hash_clips(dataset, audio_column)  # The notes name the files, which the hash does not.
    if key not in _checked:
        loader = DataLoader(
            _ClipCheck(dataset, audio_column, name),
            batch_size=None,
            num_workers=num_workers,
            generator=torch.Generator(),  # so that the check leaves the random state as it is
        )
        notes = enumerate(tqdm(loader, desc=f"{name}: checking clips", unit="clip", leave=False))
        _checked[key] = {row: note for row, note in notes if note is not None}
    return _checked[key]


def drop_bad_clips(
    splits: DatasetDict, audio_column: str | None = None, num_workers: int = 0, name: str = ""
) -> tuple[DatasetDict, list[ClipNote]]:
    """
    Leaves out the clips that cannot be used. All clips are decoded to find these.

    Returns:
        `tuple[DatasetDict, list[ClipNote]]`: The other clips, and a note of each clip that was left out.

    Raises:
        `ValueError`: If no clip of a split can be used.
    """
    kept, notes = {}, []
    for split, clips in splits.items():
        bad = find_bad_clips(clips, find_audio_column(clips, audio_column), f"{name} {split}".strip(), num_workers)
        if len(bad) == len(clips):
            reason = next((note.reason for note in bad.values()), "it is empty")
            raise UserError(f"None of the {len(clips)} clips of the split {split!r} can be used. The first: {reason}")
        notes += bad.values()
        kept[split] = clips.select([row for row in range(len(clips)) if row not in bad]) if bad else clips
    return DatasetDict(kept), notes


@contextmanager
def suggest_skipping() -> Iterator[None]:
    """Adds to an error about a clip that a script can skip it, and how."""
    try:
        yield
    except BadClipError as error:
        raise BadClipError(f"{describe(error)} Pass --skip_bad_clips to leave out such clips.", error.kind) from error
