"""Random segments of a recording."""

from typing import Any

import numpy as np

from .audio import open_audio


def random_segments(
    source: Any, num_samples: int, rng: np.random.Generator, count: int = 2, sampling_rate: int = 16000
) -> list[np.ndarray]:
    """
    Draws segments of a recording independently and uniformly (paper, section 3), decoding nothing else of it.

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

    Returns:
        `count` arrays of shape `(num_samples,)`, or shorter ones of a shorter recording.

    Raises:
        [`AudioDecodingError`]: if the source is empty, damaged or not audio.
    """
    with open_audio(source, sampling_rate) as audio:
        last_start = max(audio.num_samples - num_samples, 0)
        return [audio.read(int(rng.integers(last_start + 1)), num_samples) for _ in range(count)]
