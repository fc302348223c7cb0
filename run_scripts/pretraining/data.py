"""From a data set to the batches of pre-training, and to the held-out pairs of its validation."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch.utils.data import DataLoader

from feature_extraction import (
    BadClipError,
    COLAFeatureExtractor,
    MixedSegmentPairs,
    SegmentPairs,
    collate_segment_pairs,
    random_segments,
    shares_of,
)
from run_scripts.common.source import hash_files, load_source
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.checkpointing import RunState
from run_scripts.pretraining.holding_out import hold_out
from run_scripts.pretraining.synthetic_pairs import no_recordings
from run_scripts.pretraining.validation import HeldOutPairs


logger = logging.getLogger(__name__)


@dataclass
class PretrainingData:
    """
    Recordings of one data set to train on and to validate on.

    Args:
        files (`str`):
            A hash of the names and sizes of its files.
        share (`float`):
            The share of its pairs in each batch.
        training (`Dataset` or `IterableDataset`):
            The recordings to train on, with their audio left encoded.
        held_out_rows (`list[dict]`), held_out_by_shard (`dict[int, int]`):
            The rows to validate on, and how many of the first rows of each shard of a stream they are.
        class_names (`list[str]`, *optional*):
            Names of the classes in the column `label`, which only the plots use.
    """

    name: str
    files: str
    share: float
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
) -> list[PretrainingData]:
    """
    Loads the recordings of all data sets and holds some of each out, by a choice with this seed. If there is a single
    one, `splits` may be the data set itself. Training needs at least `num_candidates` recordings, a batch of every
    process.

    Raises:
        `ValueError`, `FileNotFoundError`: If there is no such data set, split or column, if there are too few
            recordings, or if the mixing weights are not one positive number for each data set.
    """
    data, names = [], data_args.dataset_name or []
    for name, share in zip(names, shares_of(data_args.mixing_weights, len(names))):
        dataset, column = load_source(replace(data_args, dataset_name=name), splits)
        label = (dataset.features or {}).get("label")
        held_out = hold_out(
            dataset,
            num_clips=math.ceil(share * data_args.validation_clips),
            batch_size=math.ceil(share * num_candidates),
            seed=seed,
        )
        data.append(
            PretrainingData(
                name=name,
                files=hash_files(name, {"": dataset}, column, with_times=False),
                share=share,
                training=held_out.training,
                audio_column=column,
                held_out_rows=held_out.rows,
                held_out_by_shard=held_out.by_shard,
                class_names=label.names if isinstance(label, ClassLabel) else None,
            )
        )
    return data


def read_held_out_pairs(
    sources: list[PretrainingData], extractor: COLAFeatureExtractor, num_samples: int, max_distance: int | None
) -> HeldOutPairs:
    """
    Draws a pair of segments of each held-out recording, as training does, and computes their features. Recordings that
    cannot be decoded are left out. Plots show the pairs by their class or, of several data sets, by their data set.
    Segments have `num_samples` samples, and are at most `max_distance` samples apart, if there is a limit.
    """
    rate = extractor.sampling_rate
    drawn, labels = [], []
    held_out = [(data, row) for data in sources for row in data.held_out_rows]
    for number, (data, row) in enumerate(held_out):
        try:
            drawn.append(
                random_segments(
                    row[data.audio_column],
                    num_samples=num_samples,
                    rng=np.random.default_rng(number),
                    count=2,
                    sampling_rate=rate,
                    max_distance=max_distance,
                )
            )
        except BadClipError:
            continue
        if len(sources) > 1:
            labels.append(Path(data.name).name)
        elif data.class_names:
            # -1 is how `datasets` marks rows without a label.
            is_labelled = row["label"] is not None and 0 <= row["label"] < len(data.class_names)
            labels.append(data.class_names[row["label"]] if is_labelled else "no label")
    if not drawn:
        return HeldOutPairs.none()
    max_length = extractor.num_frames(num_samples)
    options = {"sampling_rate": rate, "padding": "max_length", "max_length": max_length, "return_tensors": "pt"}
    anchors, positives = (extractor([segments[side] for segments, _ in drawn], **options) for side in (0, 1))
    inputs = {
        "input_values": anchors["input_values"],
        "positive_values": positives["input_values"],
        "gaps": torch.tensor([gaps[1] for _, gaps in drawn]),
    }
    return HeldOutPairs(inputs, labels or None)


def build_loader(
    sources: list[PretrainingData],
    num_samples: int,
    sampling_rate: int,
    max_distance: int | None,
    args: PretrainingArguments,
    accelerator: Accelerator,
    state: RunState,
    num_pairs: int,
) -> Iterable[dict[str, Any]]:
    """
    Builds the endless loader of batches of `num_pairs` pairs of segments, which starts where `state` stands. Without
    data sets, the batches have no pairs. Segments have `num_samples` samples, and are at most `max_distance` samples
    apart, if there is a limit.
    """
    if not sources:
        return repeat(no_recordings(num_samples))
    streams = [
        SegmentPairs(
            data.training,
            num_samples=num_samples,
            sampling_rate=sampling_rate,
            audio_column=data.audio_column,
            max_distance=max_distance,
            seed=args.seed,
            held_out=data.held_out_by_shard,
            min_clips=math.ceil(data.share * num_pairs),
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            state={worker: states[i] for worker, states in state.readers.items()},
            first_worker=state.next_worker,
        )
        for i, data in enumerate(sources)
    ]
    return DataLoader(
        MixedSegmentPairs(streams, [data.share for data in sources]),
        batch_size=num_pairs,
        collate_fn=collate_segment_pairs,
        num_workers=args.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator().manual_seed(args.seed),
    )
