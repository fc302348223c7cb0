"""Which recordings are held out of training, for validation."""

import logging
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset

from feature_extraction import CorruptShardError
from run_scripts.common.errors import UserError


logger = logging.getLogger(__name__)


def hold_out(
    dataset: Dataset | IterableDataset, num_clips: int, batch_size: int, seed: int
) -> tuple[Dataset | IterableDataset, list[dict[str, Any]], dict[int, int]]:
    """
    Holds out recordings for validation: a random choice of at most a tenth of a data set with random access, or the
    first ones of a stream.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            The recordings, with their audio left encoded.
        num_clips (`int`):
            How many to hold out.
        batch_size (`int`):
            How many of the others are needed at least.
        seed (`int`):
            Seed of the choice.

    Returns:
        The data to train on, the rows that are held out, and for each shard of a stream that holds any of them how
        many of its first rows these are.

    Raises:
        `ValueError`: if there are too few recordings.
    """
    if isinstance(dataset, IterableDataset):
        return dataset, *_hold_out_of_stream(dataset, num_clips, batch_size)
    num_clips = _held_out_count(num_clips, len(dataset), batch_size, "data set")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.select(np.sort(order[num_clips:])), list(dataset.select(np.sort(order[:num_clips]))), {}


def _held_out_count(num_clips: int, total: int, batch_size: int, what: str) -> int:
    """At most a tenth of the clips, after a check that the others make a batch."""
    num_clips = min(num_clips, total // 10)
    if total - num_clips < batch_size:
        raise UserError(
            f"The {what} has {total} clips, of which {num_clips} are held out: that is less than a batch of "
            f"{batch_size}. Lower --per_device_train_batch_size or add clips."
        )
    return num_clips


def _hold_out_of_stream(
    dataset: IterableDataset, num_clips: int, batch_size: int
) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Holds out the first clips of a stream, which are counted as far as it takes to know that there are enough."""
    num_known = _count_clips(dataset, max(10 * num_clips, num_clips + batch_size))
    num_clips = _held_out_count(num_clips, num_known, batch_size, "stream")
    rows, by_shard = [], {}
    for shard in range(dataset.num_shards):
        if len(rows) == num_clips:
            break
        rows_of_shard = []
        try:
            for row in dataset.shard(dataset.num_shards, shard).take(num_clips - len(rows)):
                rows_of_shard.append(row)
        except CorruptShardError as error:
            logger.warning(str(error))  # training meets it again, and lists it
        by_shard[shard] = len(rows_of_shard)
        rows += rows_of_shard
    return rows, by_shard


def _count_clips(dataset: IterableDataset, enough: int) -> int:
    """The number of clips in a stream, or `enough` if there are at least so many."""
    splits, split = dataset.info.splits or {}, str(dataset.split)
    if split in splits and splits[split].num_examples:
        return min(splits[split].num_examples, enough)
    count = 0
    for shard in range(dataset.num_shards):
        try:
            for _ in dataset.shard(dataset.num_shards, shard).with_format("arrow"):
                count += 1
                if count == enough:
                    return enough
        except CorruptShardError:
            continue
    return count
