"""Augmentation of the positives."""

import numpy as np
import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from run_scripts.pretraining.augmentation import (
    add_noise,
    make_features,
    mix_background,
    random_equalizer,
    spec_augment,
)
from run_scripts.pretraining.recipes import RECIPES


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


def test_only_the_positives_are_augmented():
    extractor = COLAFeatureExtractor()
    waveforms = torch.randn(4, 15600).repeat(2, 1)  # anchors and positives are the same segments
    batch = {"waveforms": waveforms, "lengths": torch.full((8,), 15600), "gaps": torch.zeros(4)}
    expected = extractor.log_mel(waveforms[:4], batch["lengths"][:4])[0]
    for recipe in RECIPES.values():
        inputs = make_features(batch, extractor, recipe.training, torch.device("cpu"))
        torch.testing.assert_close(inputs["input_values"], expected)
        assert (inputs["positive_values"] - expected).abs().max() > 0.01
