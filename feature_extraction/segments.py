"""Random segments of a recording."""

import math
from typing import Any

import numpy as np

from .audio import open_audio


def random_segments(
    source: Any,
    num_samples: int,
    rng: np.random.Generator,
    count: int = 2,
    sampling_rate: int = 16000,
    max_distance: int | None = None,
    return_gaps: bool = False,
) -> list[np.ndarray] | tuple[list[np.ndarray], list[float]]:
    """
    Draws segments of a recording uniformly, decoding nothing else of it: independently (paper, section 3), or near
    the first.

    A recording shorter than a segment gives the whole of itself each time; the feature extractor pads it.

    Args:
        source:
            Anything that [`open_audio`] takes.
        num_samples (`int`):
            Length of a segment, at `sampling_rate`.
        rng (`np.random.Generator`):
            Where the positions are drawn from.
        count (`int`, *optional*, defaults to 2):
            How many segments.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The rate of the segments, in hertz.
        max_distance (`int`, *optional*):
            How far from the first one the others begin, at the most, in samples at `sampling_rate`. Defaults to
            anywhere.
        return_gaps (`bool`, *optional*, defaults to `False`):
            Whether to return too how far from the first one each begins.

    Returns:
        `count` arrays of shape `(num_samples,)`, or shorter ones of a shorter recording. With `return_gaps` also
        `count` distances, as shares of the greatest that is possible: NaN if a segment has only one place.

    Raises:
        [`AudioDecodingError`]: if the source is empty, damaged or not audio.
    """
    with open_audio(source, sampling_rate) as audio:
        first, last = 0, max(audio.num_samples - num_samples, 0)
        farthest = last if max_distance is None else min(last, max_distance)
        segments, starts = [], []
        for _ in range(count):
            start = int(rng.integers(first, last + 1))
            segments.append(audio.read(start, num_samples))
            starts.append(start)
            if max_distance is not None and len(segments) == 1:
                first, last = max(first, start - max_distance), min(last, start + max_distance)
    if not return_gaps:
        return segments
    return segments, [abs(start - starts[0]) / farthest if farthest else math.nan for start in starts]
