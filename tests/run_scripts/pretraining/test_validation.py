"""What is held out, and what is computed on it."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset

from feature_extraction import load_audio_dataset, tars
from feature_extraction.lost_clips import is_lost
from helpers import write_tar
from modeling_cola import COLAConfig, COLAForPreTraining
from modeling_cola.modeling_cola import decorrelation_loss
from run_scripts.pretraining.holding_out import hold_out
from run_scripts.pretraining.validation import HeldOutPairs, evaluating, inputs_of, validate, warn_if_degenerate


def held_out_pairs(count: int) -> HeldOutPairs:
    generator = torch.Generator().manual_seed(0)
    anchors, positives = torch.randn(2, count, 96, 64, generator=generator)
    return HeldOutPairs({"input_values": anchors, "positive_values": positives, "gaps": torch.rand(count)})


def test_the_validation_loss_is_the_training_loss_on_held_out_recordings():
    """With the penalty on correlations, so that both curves of the plot are of one quantity."""
    torch.manual_seed(0)
    config = COLAConfig(encoder="compact", compact_channels=8, pooling="statistics", decorrelation_weight=0.5)
    model, pairs = COLAForPreTraining(config).train(), held_out_pairs(8)
    entry = validate(model, pairs, batch_size=4)
    assert model.training
    model.eval()
    with torch.no_grad():
        outputs = [model(**inputs_of(model, batch)) for batch in pairs.batches(4)]
        embeddings = [model.cola(torch.cat([b["input_values"], b["positive_values"]])) for b in pairs.batches(4)]
    assert entry["validation_loss"] == pytest.approx(np.mean([output.loss.item() for output in outputs]), rel=1e-5)
    assert entry["validation_accuracy"] == pytest.approx(np.mean([output.accuracy.item() for output in outputs]))
    penalty = np.mean([decorrelation_loss(output.pooler_output).item() for output in embeddings])
    config.decorrelation_weight = 0.0
    plain = validate(model, pairs, batch_size=4)["validation_loss"]
    assert entry["validation_loss"] - plain == pytest.approx(0.5 * penalty, rel=1e-4) and penalty > 1


def test_the_model_goes_on_training_after_an_error_in_validation():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(OSError, match="full"), evaluating(model):
        assert not model.training and not torch.is_grad_enabled()
        raise OSError("The disk is full.")
    assert model.training and torch.is_grad_enabled()


def test_a_smaller_last_batch_counts_by_its_size():
    torch.manual_seed(0)
    model, pairs = COLAForPreTraining(COLAConfig(encoder="compact", compact_channels=8)), held_out_pairs(5)
    entry = validate(model, pairs, batch_size=4)
    model.eval()
    with torch.no_grad():
        losses = [model(**inputs_of(model, batch)).loss.item() for batch in pairs.batches(4)]
    assert entry["validation_loss"] == pytest.approx((4 * losses[0] + losses[1]) / 5, rel=1e-5)


@pytest.mark.parametrize("num_clips", [0, 3, 50])
def test_at_most_a_tenth_is_held_out(num_clips: int):
    dataset = Dataset.from_dict({"number": list(range(100))})
    training, rows, by_shard = hold_out(dataset, num_clips, batch_size=8, seed=1)
    held_out = [row["number"] for row in rows]
    assert len(held_out) == min(num_clips, 10) and by_shard == {}
    assert sorted([*held_out, *training["number"]]) == list(range(100))


@pytest.mark.parametrize("num_clips", [0, 1, 3, 50])
def test_few_held_out_clips_of_a_stream_leave_a_batch(num_clips: int):
    stream = Dataset.from_dict({"number": list(range(100))}).to_iterable_dataset(num_shards=4)
    _, rows, by_shard = hold_out(stream, num_clips, batch_size=64, seed=1)
    assert [row["number"] for row in rows] == list(range(min(num_clips, 10)))
    assert sum(by_shard.values()) == len(rows)


@pytest.mark.parametrize("num_clips, num_read", [(5, 5), (25, 25 + 200)])
def test_no_more_of_a_long_stream_is_read_than_needed(tmp_path: Path, monkeypatch, num_clips: int, num_read: int):
    """The size of tar files says that 200 clips are more than twice 50, but not whether they are at least 250."""
    write_tar(tmp_path / "a.tar", {f"{i:03}.wav": bytes(5000) for i in range(200)})
    stream = load_audio_dataset(str(tmp_path))["train"]
    read, stored = [], tars.storable_name
    monkeypatch.setattr(tars, "storable_name", lambda name: read.append(name) or stored(name))
    held_out = hold_out(stream, num_clips, batch_size=8, seed=1)
    assert len(held_out.rows) == min(num_clips, 20)
    assert num_read <= len(read) <= num_read + 2  # a sample ends where the next one begins


def test_lost_clips_are_not_held_out(tmp_path: Path):
    """Training meets them, and lists them."""
    write_tar(tmp_path / "a.tar", {f"{i:03}.wav": bytes(5000) for i in range(100)})
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[2 * 5632 : 2 * 5632 + 100] = b"x" * 100
    (tmp_path / "a.tar").write_bytes(data)
    stream = load_audio_dataset(str(tmp_path))["train"]
    _, rows, by_shard = hold_out(stream, 8, batch_size=8, seed=1)
    assert [row["audio"]["path"] for row in rows] == ["000.wav", "001.wav"] and by_shard == {0: 2}
    dataset = Dataset.from_list(list(stream))
    training, rows, _ = hold_out(dataset, 10, batch_size=8, seed=[s for s in range(99) if 2 in chosen(s)][0])
    assert len(rows) == 9 and len(training) == 91 and any(is_lost(row["audio"]) for row in training)


def chosen(seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(100)[:10].tolist()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"step": 100, "accuracy": 0.995}, "add recordings"),
        ({"step": 100, "validation_cosine": 0.99}, "collapsed"),
        ({"step": 100, "accuracy": 0.9, "validation_cosine": 0.5}, None),
        ({"step": 2, "accuracy": 1.0, "validation_cosine": 0.99}, None),
    ],
)
def test_warns_of_a_solved_task_and_of_collapse(entry: dict, message: str | None, caplog: pytest.LogCaptureFixture):
    Accelerator()
    with caplog.at_level(logging.WARNING):
        warn_if_degenerate(entry, 64)
    assert (message in caplog.text) if message else not caplog.text
