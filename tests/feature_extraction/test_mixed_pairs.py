"""Several streams of segment pairs as one: their shares, and resumption."""

from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from feature_extraction import MixedSegmentPairs, SegmentPairs, collate_segment_pairs, load_audio_dataset


NUM_SHARDS = 4  # of the fixture `parquet`; shard i has the clips i, i + 4, i + 8 ...


def build_loader(parquet, weights, batch_size=8, num_workers=0, states=None) -> DataLoader:
    """Mixes the shards 0 and 1, the first with random access and the second as a stream."""
    shards = [load_audio_dataset(str(parquet / f"train-0000{i}-of-00004.parquet"), streaming=i == 1) for i in (0, 1)]
    streams = [
        SegmentPairs(
            shard["train"], 400, buffer_size=3, state={worker: state[i] for worker, state in (states or {}).items()}
        )
        for i, shard in enumerate(shards)
    ]
    pairs = MixedSegmentPairs(streams, weights)
    return DataLoader(pairs, batch_size, num_workers=num_workers, collate_fn=collate_segment_pairs)


def clips_of(batch: dict) -> list[int]:
    return [int(100 * float(anchor[0])) for anchor in batch["waveforms"].chunk(2)[0]]


@pytest.mark.parametrize("weights, expected", [(None, (4, 4)), ([3, 1], (6, 2)), ([0.5, 1.5], (2, 6))])
def test_every_batch_has_the_shares(parquet, weights, expected):
    batches = [batch for batch, _ in zip(build_loader(parquet, weights), range(6))]
    for batch in batches:
        shards = Counter(clip % NUM_SHARDS for clip in clips_of(batch))
        assert (shards[0], shards[1]) == expected
    assert len({clip for batch in batches for clip in clips_of(batch)}) == 12  # all the clips of both


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumes_where_it_stopped(parquet, num_workers):
    batches = [b for b, _ in zip(build_loader(parquet, [5, 2], 4, num_workers), range(8))]
    stopped = 4
    states = {batch["state"][0].worker: batch["state"] for batch in batches[:stopped]}
    resumed = build_loader(parquet, [5, 2], 4, num_workers, states)
    for batch, expected in zip(resumed, batches[stopped:]):
        assert torch.equal(batch["waveforms"], expected["waveforms"]) and batch["state"] == expected["state"]


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_unsuitable_weights_are_refused(parquet, weights):
    with pytest.raises(ValueError, match="--mixing_weights"):
        build_loader(parquet, weights)
