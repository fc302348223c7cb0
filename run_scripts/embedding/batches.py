"""Batches of clips that are bounded by their samples, so that one long recording does not exhaust the memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar


Item = TypeVar("Item")

# The samples of a batch after padding: 17 minutes at 16 kHz, of which the waveforms take 67 MB.
MAX_BATCH_SAMPLES = 2**24


def batch_by_samples(
    items: Iterable[Item],
    num_samples: Callable[[Item], int],
    max_items: int,
    max_samples: int | None = None,
    padded: bool = True,
) -> Iterator[list[Item]]:
    """
    Groups items into batches, in their order. An item that is longer than a batch may be is a batch of its own.

    Args:
        items (`Iterable`):
            The items, for example waveforms. They are consumed one by one.
        num_samples (`Callable`):
            Returns the length of an item in samples.
        max_items (`int`):
            The greatest number of items in a batch.
        max_samples (`int`, *optional*, defaults to `MAX_BATCH_SAMPLES`):
            The greatest number of samples in a batch.
        padded (`bool`, *optional*, defaults to `True`):
            Whether all items of a batch count as much as its longest one, to which they are padded.
    """
    max_samples = MAX_BATCH_SAMPLES if max_samples is None else max_samples
    batch, total, longest = [], 0, 0
    for item in items:
        length = num_samples(item)
        total, longest = total + length, max(longest, length)
        size = longest * (len(batch) + 1) if padded else total
        if batch and (size > max_samples or len(batch) == max_items):
            yield batch
            batch, total, longest = [], length, length
        batch.append(item)
    if batch:
        yield batch
