"""Random segments: their lengths, where they lie, and that only they are decoded."""

import numpy as np
import pytest

from feature_extraction import AudioDecodingError, random_segments
from helpers import count_decoded, encode


RATE = 16000


def ramp(length: int) -> bytes:
    """A recording whose samples are their own positions."""
    return encode(np.arange(length, dtype=np.float64), subtype="FLOAT")


def starts(source: bytes, num_samples: int, count: int, seed: int = 0) -> np.ndarray:
    """Where the random segments of a ramp start."""
    segments = random_segments(source, num_samples, np.random.default_rng(seed), count).waveforms
    for segment in segments:
        np.testing.assert_array_equal(np.diff(segment), 1)
    return np.array([int(segment[0]) for segment in segments])


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("num_samples", [1, 400, 15600])
def test_lengths(num_samples, count):
    segments = random_segments(ramp(20000), num_samples, np.random.default_rng(0), count).waveforms
    assert [segment.shape for segment in segments] == [(num_samples,)] * count
    assert all(segment.dtype == np.float32 for segment in segments)


def test_two_by_default():
    assert len(random_segments(ramp(2000), 400, np.random.default_rng(0)).waveforms) == 2


def test_the_generator_decides():
    source = ramp(20000)
    np.testing.assert_array_equal(starts(source, 400, 8, seed=1), starts(source, 400, 8, seed=1))
    assert (starts(source, 400, 8, seed=1) != starts(source, 400, 8, seed=2)).any()
    rng = np.random.default_rng(1)
    first, second = (random_segments(source, 400, rng, 1).waveforms[0] for _ in range(2))
    assert first[0] != second[0]


def test_every_start_is_as_likely():
    counts = np.bincount(starts(ramp(1009), 1000, 2000), minlength=10)
    assert len(counts) == 10
    expected = 200
    # Chi-squared of 9 degrees of freedom is greater once in a thousand times.
    assert ((counts - expected) ** 2 / expected).sum() < 27.9


@pytest.mark.parametrize("max_distance", [0, 3, 20])
def test_segments_near_the_first(max_distance):
    source = ramp(1040)
    rng = np.random.default_rng(0)
    found = np.array(
        [
            [int(segment[0]) for segment in random_segments(source, 1000, rng, 3, max_distance=max_distance).waveforms]
            for _ in range(5000)
        ]
    )
    assert set(found[:, 0]) == set(range(41))
    for distances in (found[:, 1] - found[:, 0], found[:, 2] - found[:, 0]):
        assert (distances.min(), distances.max()) == (-max_distance, max_distance)
    assert found.min() == 0 and found.max() == 40


@pytest.mark.parametrize(("max_distance", "farthest"), [(None, 40), (20, 20), (100, 40)])
def test_gaps_are_shares_of_the_greatest_distance(max_distance, farthest):
    source = ramp(1040)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3000):
        segments, gaps = random_segments(source, 1000, rng, 3, max_distance=max_distance)
        np.testing.assert_allclose(gaps, [abs(segment[0] - segments[0][0]) / farthest for segment in segments])
        found += gaps
    assert (min(found), max(found)) == (0, 1)


@pytest.mark.parametrize("length", [1, 400])
def test_a_recording_with_one_place_has_no_gap(length):
    segments, gaps = random_segments(ramp(length), 400, np.random.default_rng(0))
    assert len(segments) == 2 and np.isnan(gaps).all()


def test_the_segments_of_a_pair_are_independent():
    source = ramp(1009)
    rng = np.random.default_rng(0)
    pairs = np.array([[s[0] for s in random_segments(source, 1000, rng).waveforms] for _ in range(1000)]).astype(int)
    assert len(np.unique(pairs, axis=0)) == 100
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.1


@pytest.mark.parametrize("length", [1, 399, 400])
def test_short_recording_is_returned_whole(length):
    segments = random_segments(ramp(length), 400, np.random.default_rng(0)).waveforms
    for segment in segments:
        np.testing.assert_array_equal(segment, np.arange(length))


@pytest.mark.parametrize("own_rate", [8000, 11025, 22050, 44100, 48000])
def test_resampled_segments_are_as_long(own_rate):
    for length in range(1000, 1020):
        source = {"array": np.ones(length), "sampling_rate": own_rate}
        num_samples = length * RATE // own_rate - 3
        segments = random_segments(source, num_samples, np.random.default_rng(length), 20).waveforms
        assert {len(segment) for segment in segments} == {num_samples}


def test_other_sampling_rate():
    time = np.arange(8000) / 8000
    source = encode(np.sin(2 * np.pi * 500 * time), 8000, subtype="FLOAT")
    segment = random_segments(source, 8000, np.random.default_rng(0), 1, sampling_rate=32000).waveforms[0]
    assert np.argmax(np.abs(np.fft.rfft(segment))) * 32000 / 8000 == 500


def test_only_the_segments_are_decoded(monkeypatch):
    decoded = count_decoded(monkeypatch)
    source = encode(np.zeros(60 * 48000), 48000, "FLAC", "PCM_16")
    random_segments(source, 15600, np.random.default_rng(0))
    assert all(46800 <= count <= 47600 for count in decoded) and len(decoded) == 2


def test_bad_recording():
    with pytest.raises(AudioDecodingError, match="0 bytes"):
        random_segments({"bytes": b"", "path": "empty.wav"}, 400, np.random.default_rng(0))
