"""Drawing: the segment pair of a clip, with notes on the clips before it of which none can be drawn."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .audio import SILENCE
from .clip_reader import Clip, ClipNote, ReaderState
from .errors import BadClipError, DataError, SilentAudioError
from .segments import random_segments


@dataclass
class SegmentPair:
    """
    Two random segments of one recording.

    Args:
        anchor, positive (`np.ndarray` of shape `(num_samples,)`):
            The segments. Those of a recording that is shorter than a segment are as short as the recording.
        state (`ReaderState`, *optional*):
            Where the reader stands after this pair, or a tuple of where it stands in each of the mixed streams.
        notes (`list[ClipNote]`, *optional*):
            The clips that were skipped between the previous pair that was read and this one, and the clip of this
            pair if it is short.
        gap (`float`, *optional*, defaults to NaN):
            The distance between the starts of the two segments, as a share of the greatest distance possible. NaN if
            a segment can start at one place only.
    """

    anchor: np.ndarray
    positive: np.ndarray
    state: ReaderState | tuple[ReaderState, ...] = ReaderState()
    notes: list[ClipNote] = field(default_factory=list)
    gap: float = math.nan


class PairDrawer:
    """
    Draws a segment pair of each clip, and takes notes of the clips that cannot be used.

    Args:
        num_samples (`int`):
            Length of a segment.
        sampling_rate (`int`):
            Sampling rate of the segments, in hertz.
        max_distance (`int`, *optional*):
            The greatest distance between the starts of the two segments, in samples. Defaults to no limit.
        seed (`int`):
            Seed of the segments, together with the epoch and the clip.
        reader_name (`str`):
            What error messages call the reader.
    """

    MAX_BAD_IN_A_ROW = 1000
    MAX_DRAWS = 3

    def __init__(self, num_samples: int, sampling_rate: int, max_distance: int | None, seed: int, reader_name: str):
        self.num_samples = num_samples
        self.sampling_rate = sampling_rate
        self.max_distance = max_distance
        self.seed = seed
        self.reader_name = reader_name
        self.notes: list[ClipNote] = []  # those that no pair has carried yet
        self.bad_in_a_row = 0

    def draw(self, clip: Clip) -> SegmentPair | None:
        """
        Draws a pair, which carries the notes taken since the previous one.

        Returns:
            [`SegmentPair`], or `None` if the clip cannot be used.

        Raises:
            `ValueError`: if `MAX_BAD_IN_A_ROW` clips in a row cannot be used.
        """
        rng = np.random.default_rng([self.seed, clip.position.epoch, *clip.key])
        try:
            pair = self._draw_with_sound(clip.audio, rng)
        except BadClipError as error:
            self._note_bad_clip(clip, error)
            return None
        length = len(pair.anchor)
        if length < self.num_samples:
            reason = f"It has {length} of {self.num_samples} samples and is padded."
            self.notes.append(ClipNote("short", clip.name, reason))
        notes, self.notes, self.bad_in_a_row = self.notes, [], 0
        return replace(pair, notes=notes)

    def _draw_with_sound(self, audio: dict[str, Any] | None, rng: np.random.Generator) -> SegmentPair:
        for _ in range(self.MAX_DRAWS):
            (anchor, positive), (_, gap) = random_segments(
                audio, self.num_samples, rng, sampling_rate=self.sampling_rate, max_distance=self.max_distance
            )
            if all(np.abs(segment).max() > SILENCE for segment in (anchor, positive)):
                return SegmentPair(anchor, positive, gap=gap)
        raise SilentAudioError(f"In each of {self.MAX_DRAWS} draws a segment was silent.")

    def _note_bad_clip(self, clip: Clip, error: BadClipError) -> None:
        self.notes.append(clip.note(error))
        self.bad_in_a_row += 1
        if self.bad_in_a_row == self.MAX_BAD_IN_A_ROW:
            raise DataError(
                f"{self.bad_in_a_row} clips in a row could not be read by {self.reader_name}. The last one is "
                f"{clip.name}: {error}"
            ) from error
