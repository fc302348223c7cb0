"""Random segments of a recording."""

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
) -> list[np.ndarray]:
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

    Returns:
        `count` arrays of shape `(num_samples,)`, or shorter ones of a shorter recording.

    Raises:
        [`AudioDecodingError`]: if the source is empty, damaged or not audio.
    """
    with open_audio(source, sampling_rate) as audio:
        first, last = 0, max(audio.num_samples - num_samples, 0)
        segments = []
        for _ in range(count):
            start = int(rng.integers(first, last + 1))
            segments.append(audio.read(start, num_samples))
            if max_distance is not None and len(segments) == 1:
                first, last = max(first, start - max_distance), min(last, start + max_distance)
        return segments
