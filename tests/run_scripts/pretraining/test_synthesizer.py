"""The synthesizer of random sounds, and its parameters."""

import pytest
import torch

from feature_extraction import COLAFeatureExtractor
from run_scripts.pretraining import synthesizer
from run_scripts.pretraining.sound_parameters import (
    PARAMETERS,
    nearby_positions,
    parameter_values,
    random_positions,
)
from run_scripts.pretraining.synthesizer import synthesize


NAMES = [parameter.name for parameter in PARAMETERS]
NUM_SAMPLES = 15600


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positions_of(**values: float) -> torch.Tensor:
    """One sound: these positions, and 0 for all other parameters."""
    positions = torch.zeros(1, len(PARAMETERS))
    for name, value in values.items():
        positions[0, NAMES.index(name)] = value
    return positions


def draw(count: int, seed: int = 0) -> torch.Tensor:
    random = generator(seed)
    return synthesize(random_positions(count, random), NUM_SAMPLES, random)


def test_the_range_of_each_parameter():
    assert len(set(NAMES)) == len(NAMES)
    for parameter in PARAMETERS:
        ends = parameter_values(torch.tensor([[0.0], [1.0]]).expand(2, len(PARAMETERS)))[parameter.name][:, 0]
        torch.testing.assert_close(ends, torch.tensor([parameter.low, parameter.high], dtype=torch.float))
    middle = parameter_values(torch.full((1, len(PARAMETERS)), 0.5))
    assert middle["pitch"].item() == pytest.approx(400)  # the geometric mean of 40 and 4000
    assert middle["tone_level"].item() == pytest.approx(-20)


def test_the_same_seed_gives_the_same_sounds():
    sounds = draw(20)
    assert sounds.shape == (20, NUM_SAMPLES)
    assert torch.equal(sounds, draw(20))
    assert not torch.equal(sounds, draw(20, seed=1))


def test_the_same_parameters_give_other_phases_and_noise():
    twins = synthesize(random_positions(1, generator()).expand(2, -1), NUM_SAMPLES, generator())
    assert (twins[0] - twins[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_heard(name: str):
    # All sources are loud, everything that moves does so, and nothing is at the end of its range.
    base = torch.full((1, len(PARAMETERS)), 0.6)
    sounds = []
    for value in (0.2, 0.9):
        base[0, NAMES.index(name)] = value
        sounds.append(synthesize(base, NUM_SAMPLES, generator()))
    assert (sounds[0] - sounds[1]).abs().max() > 1e-3


def test_the_pitch_is_that_of_the_tone():
    positions = positions_of(tone_level=1, pitch=0.5, level=1, equalizer_0=0.5, brightness=0.5, sustain=1)
    sound = synthesize(positions, NUM_SAMPLES, generator())
    spectrum = torch.fft.rfft(sound[0] * torch.hann_window(NUM_SAMPLES)).abs()
    assert spectrum.argmax().item() * 16000 / NUM_SAMPLES == pytest.approx(400, abs=2)


def test_partials_are_their_sum():
    phase, spacing = torch.rand(3, 50, generator=generator()) * 6, torch.rand(3, 50, generator=generator(1)) * 6
    ratio, count = torch.tensor([[0.2], [0.7], [0.99]]), torch.tensor([[1.0], [5.0], [40.0]])
    for row in range(3):
        terms = [ratio[row] ** k * torch.sin(phase[row] + k * spacing[row]) for k in range(int(count[row]))]
        closed = synthesizer._partials(phase, spacing, ratio, count)[row]
        torch.testing.assert_close(closed, sum(terms), rtol=1e-3, atol=2e-3)


def test_loudness_is_spread_over_a_range_and_nothing_clips():
    sounds = draw(500)
    loudness = 20 * sounds.square().mean(1).sqrt().log10()
    assert sounds.abs().max() <= 1
    low, middle, high = torch.quantile(loudness, torch.tensor([0.05, 0.5, 0.95]))
    assert -40.1 < low < -34 and -30 < middle < -22 and -20 < high < -11.9


def test_spectra_differ_and_cover_all_bands():
    extractor = COLAFeatureExtractor()
    frames = extractor.log_mel(draw(500), torch.full((500,), NUM_SAMPLES))[0]
    spectra = frames.mean(1)
    # Low and high sounds, tonal and noisy ones, steady ones and ones that change.
    slopes = spectra[:, :20].mean(1) - spectra[:, 44:].mean(1)
    assert 0 < slopes.median() < 2 and slopes.std() > 1.2
    loudest = spectra.argmax(1).bincount(minlength=64)
    assert loudest.max() < 75 and (loudest.view(16, 4).sum(1) > 0).all()
    changes = frames.std(1).mean(1)
    low, high = torch.quantile(changes, torch.tensor([0.1, 0.9]))
    assert high > 2 * low
    ripples = spectra.diff(dim=1).abs().mean(1)
    low, high = torch.quantile(ripples, torch.tensor([0.1, 0.9]))
    assert high > 2 * low


def test_nearby_sounds_are_alike():
    random = generator()
    anchors = random_positions(300, random)
    torch.testing.assert_close(nearby_positions(anchors, 0.0, random), anchors)
    moved = (nearby_positions(anchors, 0.25, random) - anchors).abs()
    assert 0 < moved.max() <= 0.25 and moved.mean() == pytest.approx(0.25 / 3, rel=0.05)
    extractor = COLAFeatureExtractor()

    def spectra(positions: torch.Tensor) -> torch.Tensor:
        sounds = synthesize(positions, NUM_SAMPLES, random)
        return extractor.log_mel(sounds, torch.full((300,), NUM_SAMPLES))[0].mean(1)

    of_anchors = spectra(anchors)
    gaps = [
        (spectra(nearby_positions(anchors, distance, random)) - of_anchors).abs().mean().item()
        for distance in (0.0, 0.25, 0.5, 1.0)
    ]
    assert gaps == sorted(gaps) and gaps[3] > 2 * gaps[0]


@pytest.mark.parametrize("num_samples", [400, 7999, 31200])
def test_other_lengths(num_samples: int):
    random = generator()
    sounds = synthesize(random_positions(3, random), num_samples, random)
    assert sounds.shape == (3, num_samples) and sounds.isfinite().all()


def check_draws(count: int) -> None:
    """Sounds at random points, and at the corners of their ranges, are finite and not silent."""
    random = generator()
    for start in range(0, count, 1000):
        positions = random_positions(min(1000, count - start), random)
        positions[::2] = positions[::2].round()
        sounds = synthesize(positions, NUM_SAMPLES, random)
        assert sounds.isfinite().all() and sounds.abs().amax(1).min() > 1e-4, start


def test_no_nan_in_two_thousand_draws():
    check_draws(2000)


@pytest.mark.slow
def test_no_nan_in_a_million_draws():
    check_draws(1_000_000)
