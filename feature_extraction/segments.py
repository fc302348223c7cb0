"""Random segments of a recording."""

import math
from typing import Any, NamedTuple

import numpy as np

from .audio import open_audio


class Segments(NamedTuple):
    """
    Random segments of one recording.

    Args:
        waveforms (`list[np.ndarray]`):
            The segments, each of shape `(num_samples,)`. If the recording is shorter than a segment, each of them is
            the whole recording.
        gaps (`list[float]`):
            For each segment, the distance between its start and that of the first one, as a share of the greatest
            distance possible. NaN if a segment can start at one place only.
    """

    waveforms: list[np.ndarray]
    gaps: list[float]


def random_segments(
    source: Any,
    num_samples: int,
    rng: np.random.Generator,
    count: int = 2,
    sampling_rate: int = 16000,
    max_distance: int | None = None,
) -> Segments:
    """
    Draws random segments of a recording, and decodes nothing else of it where its format allows that.

    Each segment is drawn uniformly and independently of the others (paper, section 3) or, with `max_distance`, near
    the first one. A recording that is shorter than a segment is returned whole each time; the feature extractor pads
    it.

    Args:
        source (`str`, `os.PathLike`, `bytes`, file object or `dict`):
            Anything that [`open_audio`] takes.
        num_samples (`int`):
            Length of a segment, in samples at `sampling_rate`.
        rng (`np.random.Generator`):
            The generator that draws where the segments start.
        count (`int`, *optional*, defaults to 2):
            How many segments to draw.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the segments, in hertz.
        max_distance (`int`, *optional*):
            The greatest distance between the starts of the first segment and any other, in samples at
            `sampling_rate`. Defaults to no limit.

    Returns:
        [`Segments`]: `count` waveforms and as many gaps.

    Raises:
        [`BadClipError`]: if the audio cannot be used, as [`open_audio`] and [`AudioFile.read`] say.
    """
    with open_audio(source, sampling_rate) as audio:
        last = max(audio.num_samples - num_samples, 0)
        farthest = last if max_distance is None else min(last, max_distance)
        first_start = int(rng.integers(0, last + 1))
        # If no limit is given, `farthest` reaches both ends of the recording from anywhere.
        earliest, latest = max(0, first_start - farthest), min(last, first_start + farthest)
        starts = [first_start, *(int(rng.integers(earliest, latest + 1)) for _ in range(count - 1))]
        waveforms = [audio.read(start, num_samples) for start in starts]
    return Segments(waveforms, [abs(start - first_start) / farthest if farthest else math.nan for start in starts])
