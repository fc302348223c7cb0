"""From a data set to the batches of pre-training, and to the held-out pairs of its validation."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch.utils.data import DataLoader

from feature_extraction import (
    BadClipError,
    COLAFeatureExtractor,
    CorruptShardError,
    SegmentPairs,
    collate_segment_pairs,
    random_segments,
)
from run_scripts.common.source import load_source
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.checkpointing import Progress
from run_scripts.pretraining.validation import HeldOutPairs


logger = logging.getLogger(__name__)


@dataclass
class PretrainingData:
    """
    Recordings to train on and recordings to validate on.

    Args:
        training (`Dataset` or `IterableDataset`):
            The recordings to train on, with their audio left encoded.
        audio_column (`str`):
            The column that holds it.
        held_out_rows (`list[dict]`):
            The rows to validate on.
        held_out_by_shard (`dict[int, int]`):
            How many of the first rows of a stream's shards are held out, for those of which any are.
        class_names (`list[str]`, *optional*):
            Names of the classes in the column `label`, which only the plots use.
    """

    training: Dataset | IterableDataset
    audio_column: str
    held_out_rows: list[dict[str, Any]]
    held_out_by_shard: dict[int, int]
    class_names: list[str] | None


def load_data(
    data_args: DataArguments,
    splits: DatasetDict | IterableDatasetDict | None,
    num_candidates: int,
    seed: int,
) -> PretrainingData:
    """
    Loads the recordings and holds some of them out.

    Args:
        data_args (`DataArguments`):
            Which recordings.
        splits (`DatasetDict` or `IterableDatasetDict`, *optional*):
            The data set, if it is loaded already.
        num_candidates (`int`):
            How many recordings training needs at least: a batch of every process.
        seed (`int`):
            Seed of the choice of those that are held out.

    Raises:
        `ValueError`, `FileNotFoundError`: if there is no such data set, split or column, or if there are too few
            recordings.
    """
    dataset, column = load_source(data_args, splits)
    label = (dataset.features or {}).get("label")
    training, rows, by_shard = hold_out(dataset, data_args.validation_clips, num_candidates, seed)
    return PretrainingData(
        training=training,
        audio_column=column,
        held_out_rows=rows,
        held_out_by_shard=by_shard,
        class_names=label.names if isinstance(label, ClassLabel) else None,
    )


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
        raise ValueError(
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


def read_held_out_pairs(
    data: PretrainingData, extractor: COLAFeatureExtractor, num_samples: int, max_distance: int | None
) -> HeldOutPairs:
    """
    Draws a pair of segments of each held-out recording, as training does, and computes their features. Recordings that
    cannot be decoded are left out.

    Args:
        data (`PretrainingData`):
            The recordings.
        extractor ([`COLAFeatureExtractor`]):
            Computes the features.
        num_samples (`int`):
            Samples of a segment.
        max_distance (`int`, *optional*):
            Greatest distance in samples from anchor to positive. Defaults to no limit.
    """
    rate, drawn, labels = extractor.sampling_rate, [], []
    for i, row in enumerate(data.held_out_rows):
        try:
            drawn.append(
                random_segments(
                    row[data.audio_column],
                    num_samples=num_samples,
                    rng=np.random.default_rng(i),
                    count=2,
                    sampling_rate=rate,
                    max_distance=max_distance,
                )
            )
        except BadClipError:
            continue
        if data.class_names:
            # -1 is how `datasets` marks rows without a label.
            is_labelled = row["label"] is not None and row["label"] >= 0
            labels.append(data.class_names[row["label"]] if is_labelled else "no label")
    if not drawn:
        return HeldOutPairs(dict.fromkeys(("input_values", "positive_values", "gaps"), torch.empty(0)))
    anchors, positives = (
        extractor([segments[side] for segments, _ in drawn], sampling_rate=rate, return_tensors="pt")
        for side in (0, 1)
    )
    inputs = {
        "input_values": anchors["input_values"],
        "positive_values": positives["input_values"],
        "gaps": torch.tensor([gaps[1] for _, gaps in drawn]),
    }
    return HeldOutPairs(inputs, labels or None)


def build_loader(
    data: PretrainingData,
    num_samples: int,
    sampling_rate: int,
    max_distance: int | None,
    args: PretrainingArguments,
    accelerator: Accelerator,
    progress: Progress,
) -> DataLoader:
    """
    Builds the endless loader of batches of segment pairs, which starts where `progress` stands.

    Args:
        data (`PretrainingData`):
            The recordings.
        num_samples, sampling_rate (`int`):
            Samples of a segment, and their rate in hertz.
        max_distance (`int`, *optional*):
            Greatest distance in samples from anchor to positive. Defaults to no limit.
        args (`PretrainingArguments`):
            Batch size, workers and seed.
        accelerator (`Accelerator`):
            Tells which process of how many this one is.
        progress (`Progress`):
            The state of each worker's reader.
    """
    pairs = SegmentPairs(
        data.training,
        num_samples=num_samples,
        sampling_rate=sampling_rate,
        audio_column=data.audio_column,
        max_distance=max_distance,
        seed=args.seed,
        held_out=data.held_out_by_shard,
        min_clips=args.per_device_train_batch_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        state=progress.readers,
        first_worker=progress.next_worker,
    )
    return DataLoader(
        pairs,
        batch_size=args.per_device_train_batch_size,
        collate_fn=collate_segment_pairs,
        num_workers=args.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator().manual_seed(args.seed),
    )
