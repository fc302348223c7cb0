"""Metrics, augmentation and pictures."""

from pathlib import Path

import matplotlib.image
import numpy as np
import plots
import pytest
import torch
from augmentation import add_noise, mix_background, random_equalizer, spec_augment
from metrics import ClassificationMetrics


def test_metrics_work_offline_and_in_batches():
    metric = ClassificationMetrics()
    metric.add_batch(predictions=[0, 1], references=[0, 1])
    metric.add_batch(predictions=[1, 1], references=[2, 1])
    # F1 by class: 1, 2 * (2/3 * 1) / (2/3 + 1) = 0.8 and 0.
    assert metric.compute() == pytest.approx({"accuracy": 0.75, "macro_f1": 0.6})


def test_noise_has_the_asked_level_and_leaves_padding_alone():
    torch.manual_seed(0)
    waveforms = torch.randn(3, 20000) * torch.tensor([[0.01], [1.0], [3.0]])
    waveforms[2, 5000:] = 0
    lengths = torch.tensor([20000, 20000, 5000])
    noise = add_noise(waveforms, lengths, 0.125) - waveforms
    assert (noise[2, 5000:] == 0).all()
    levels = torch.stack([noise[i, :n].std() / waveforms[i, :n].std() for i, n in enumerate(lengths)])
    torch.testing.assert_close(levels, torch.full((3,), 0.125), rtol=0.05, atol=0)
    assert add_noise(waveforms, lengths, 0) is waveforms


def test_spec_augment_masks_bands_and_frames_of_each_clip_by_itself():
    torch.manual_seed(0)
    masked = spec_augment(torch.ones(200, 96, 64), max_bands=16, max_frames=24, value=-5.0) == -5.0
    bands, frames = masked.all(1), masked.all(2)
    torch.testing.assert_close(masked, bands[:, None, :] | frames[:, :, None])
    assert bands.sum(1).max() <= 16 and frames.sum(1).max() <= 24
    assert bands.sum(1).float().mean() > 4 and frames.sum(1).float().mean() > 6
    assert len({tuple(row.tolist()) for row in bands}) > 50
    assert not (spec_augment(torch.ones(4, 96, 64), 0, 0, -5.0) == -5.0).any()


def test_mixed_background_is_another_clip_in_the_back():
    torch.manual_seed(0)
    clips = torch.arange(1.0, 9.0)[:, None, None].expand(8, 4, 3)  # log magnitudes
    mixed = mix_background(clips, 0.4)
    assert mixed.shape == clips.shape and (mixed.std((1, 2)) < 1e-6).all()
    low, high = clips + np.log(0.6) - 1e-5, (0.6 * clips.exp() + 0.4 * clips.max().exp()).log() + 1e-5
    assert ((mixed >= low) & (mixed <= high)).all()
    assert (mixed - clips).abs().max() > 0.1
    torch.testing.assert_close(mix_background(clips, 0.0), clips)


def test_equalizer_adds_one_smooth_response_to_all_frames_of_a_clip():
    torch.manual_seed(0)
    values = torch.zeros(500, 10, 64)
    response = random_equalizer(values, 0.7, floor=-11.5)
    torch.testing.assert_close(response, response[:, :1].expand_as(response))
    assert response[:, 0, 0].std().item() == pytest.approx(0.7, rel=0.15)
    assert response[:, 0].diff(dim=-1).abs().max() < 0.4  # no jumps
    assert (response[0, 0] - response[1, 0]).abs().max() > 0.1
    assert random_equalizer(values, 50.0, floor=-11.5).min() == pytest.approx(-11.5)


def is_drawn(path: Path) -> bool:
    return matplotlib.image.imread(path)[..., :3].std() > 0.02


def test_pictures_are_drawn(tmp_path: Path):
    rng = np.random.default_rng(0)
    history = [{"step": s, "loss": 1 / s, "accuracy": 0.5, "validation_loss": 1.0} for s in (1, 2, 3)]
    plots.plot_training_curves(history, tmp_path / "curves.png", {"loss": np.log(8), "accuracy": 1 / 8})
    plots.plot_training_curves([{"step": s, "loss": 1 / s} for s in (1, 2, 3)], tmp_path / "loss.png", {})
    plots.plot_similarity_matrix(rng.standard_normal((8, 8)), tmp_path / "similarity.png")
    vectors = rng.standard_normal((20, 5))
    plots.plot_embedding_map(vectors, tmp_path / "map.png", ["a", "b"] * 10, pairs=True, title="map")
    plots.plot_embedding_map(vectors, tmp_path / "plain.png")
    plots.plot_confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"], tmp_path / "confusion.png")
    plots.plot_accuracy_bars({"task": {"A": 50.0, "B": 60.0}}, tmp_path / "bars.png")
    drawn = {path.stem: is_drawn(path) for path in tmp_path.glob("*.png")}
    assert len(drawn) == 7 and all(drawn.values()), drawn
