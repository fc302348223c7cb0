"""Which recordings are held out of training, for validation."""

from collections import Counter
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, IterableDataset

from feature_extraction.lost_clips import is_lost
from run_scripts.common.errors import UserError


class HeldOut(NamedTuple):
    """
    What [`hold_out`] returns: the recordings to train on (those that are held out of a stream are still in it), the
    rows to validate on, and how many of the first rows of a stream's shards are held out, for those of which any are.
    """

    training: Dataset | IterableDataset
    rows: list[dict[str, Any]]
    by_shard: dict[int, int]


def hold_out(dataset: Dataset | IterableDataset, num_clips: int, batch_size: int, seed: int) -> HeldOut:
    """
    Holds out recordings for validation: a random choice of at most a tenth of a data set with random access, or the
    first ones of a stream. Rows that stand for lost clips are left to training, which lists them.

    Args:
        num_clips (`int`):
            How many to hold out.
        batch_size (`int`):
            How many of the others are needed at least. Fewer are a [`UserError`].
        seed (`int`):
            Seed of the choice.
    """
    if isinstance(dataset, IterableDataset):
        return _hold_out_of_stream(dataset, num_clips, batch_size)
    num_clips = _held_out_count(num_clips, len(dataset), batch_size, "data set")
    order = np.random.default_rng(seed).permutation(len(dataset))
    chosen = {int(i): row for i, row in zip(order, dataset.select(order[:num_clips])) if not _is_lost(row)}
    training = dataset.select([i for i in range(len(dataset)) if i not in chosen])
    return HeldOut(training, [chosen[i] for i in sorted(chosen)], {})


def _held_out_count(num_clips: int, total: int, batch_size: int, what: str) -> int:
    """At most a tenth of the clips, after a check that the others make a batch."""
    num_clips = min(num_clips, total // 10)
    if total - num_clips < batch_size:
        raise UserError(
            f"The {what} has {total} clips, of which {num_clips} are held out: that is less than a batch of "
            f"{batch_size}. Lower --per_device_train_batch_size or add clips."
        )
    return num_clips


def _is_lost(row: dict[str, Any]) -> bool:
    return any(is_lost(value) for value in row.values() if isinstance(value, dict))


def _hold_out_of_stream(dataset: IterableDataset, num_clips: int, batch_size: int) -> HeldOut:
    """Holds out the first clips of a stream, of which no more are read than it takes to know that it has enough."""
    first = _read_first(dataset, num_clips)
    num_known = _count_clips(dataset, first, max(10 * num_clips, num_clips + batch_size))
    first = first[: _held_out_count(num_clips, num_known, batch_size, "stream")]
    by_shard = Counter(shard for shard, _ in first)
    return HeldOut(dataset, [row for _, row in first], dict(by_shard))


def _read_first(dataset: IterableDataset, num_clips: int) -> list[tuple[int, dict[str, Any]]]:
    """Reads the first clips of a stream, each with the number of its shard; of a damaged shard those before damage."""
    rows = []
    for shard in range(dataset.num_shards):
        if len(rows) == num_clips:
            break
        of_shard = dataset.shard(dataset.num_shards, shard).take(num_clips - len(rows))
        rows += [(shard, row) for row in takewhile(lambda row: not _is_lost(row), of_shard)]
    return rows


def _count_clips(dataset: IterableDataset, first: list[tuple[int, dict[str, Any]]], enough: int) -> int:
    """The number of clips in a stream, or `enough` if there are at least so many."""
    split = (dataset.info.splits or {}).get(str(dataset.split))
    if split is not None and split.num_examples:
        return min(split.num_examples, enough)
    # Where only the size of the data is known, and would do for more than twice as many clips, none are counted.
    if split is not None and first and split.num_bytes * len(first) > 2 * enough * sum(_size(row) for _, row in first):
        return enough
    return sum(1 for _ in dataset.with_format("arrow").take(enough))


def _size(row: dict[str, Any]) -> int:
    """Bytes of the audio in a row."""
    return sum(len(value.get("bytes") or b"") for value in row.values() if isinstance(value, dict))
