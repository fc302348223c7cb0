"""The feature extractor takes what `datasets` decodes: torchcodec's decoders and samples, and dictionaries."""

import logging

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset

from feature_extraction import COLAFeatureExtractor
from helpers import audio_dataset, encode


RATE = 16000


@pytest.fixture(scope="module")
def extractor() -> COLAFeatureExtractor:
    return COLAFeatureExtractor()


def stereo(seed: int, num_samples: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((num_samples, 2))


@pytest.fixture
def clips(torchcodec: None) -> Dataset:
    """Two recordings in stereo."""
    sounds = [stereo(0), stereo(1, 24000)]
    return audio_dataset([{"bytes": encode(sound, subtype="FLOAT"), "path": None} for sound in sounds])


@pytest.fixture(scope="module")
def expected(extractor: COLAFeatureExtractor) -> torch.Tensor:
    waveforms = [stereo(0).mean(1), stereo(1, 24000).mean(1)]
    return extractor(waveforms, sampling_rate=RATE, return_tensors="pt")["input_values"]


@pytest.mark.parametrize(
    "of",
    [
        lambda clips: [row["audio"] for row in clips],
        lambda clips: clips[:]["audio"],
        lambda clips: clips["audio"],  # a lazy column
        lambda clips: tuple(row["audio"].get_all_samples() for row in clips),
        lambda clips: [row["audio"].get_samples_played_in_range(0.0, 2.0) for row in clips],
        lambda clips: [{"array": row["audio"]["array"], "sampling_rate": RATE, "path": "a.wav"} for row in clips],
        lambda clips: [clips[0]["audio"], stereo(1, 24000).mean(1)],
    ],
    ids=["decoders", "batch", "column", "samples", "part", "dictionaries", "mixed"],
)
@pytest.mark.parametrize("sampling_rate", [RATE, None])
def test_decoded_audio_is_a_waveform(extractor, clips, expected, caplog, of, sampling_rate):
    given = of(clips)
    with caplog.at_level(logging.WARNING):
        values = extractor(given, sampling_rate=sampling_rate, return_tensors="pt")["input_values"]
    torch.testing.assert_close(values, expected, atol=1e-4, rtol=0)
    # What has a rate needs no argument for it.
    has_no_rate = isinstance(given, list) and isinstance(given[-1], np.ndarray)
    assert ("sampling_rate" in caplog.text) == (has_no_rate and sampling_rate is None)


def test_one_clip_is_no_batch(extractor, clips, expected):
    row = clips[0]["audio"]
    for given in (row, row.get_all_samples(), {"raw": row["array"].tolist(), "sampling_rate": RATE}):
        values = extractor(given, return_tensors="pt")["input_values"]
        torch.testing.assert_close(values, expected[:1, : values.shape[1]], atol=1e-4, rtol=0)


def test_mapping_a_data_set(extractor, clips, expected):
    encoded = clips.map(lambda batch: extractor(batch["audio"]), batched=True, remove_columns="audio")
    for values, frames in zip(encoded.with_format("numpy")["input_values"], expected):
        np.testing.assert_allclose(values, frames[: len(values)], atol=1e-4)


def test_another_rate_is_refused_with_the_cast_that_resamples(extractor, torchcodec):
    clips = [(stereo(0), RATE), (stereo(1), 44100)]
    dataset = audio_dataset([{"bytes": encode(sound, rate), "path": None} for sound, rate in clips])
    message = r"16000 Hz, but waveform 1 has 44100 Hz.*cast_column\(\"audio\", Audio\(sampling_rate=16000\)\)"
    with pytest.raises(ValueError, match=message):
        extractor(dataset["audio"])
    with pytest.raises(ValueError, match=message.replace("waveform 1", "waveform 0")):
        extractor({"array": np.zeros(400), "sampling_rate": 44100})
    resampled = dataset.cast_column("audio", Audio(sampling_rate=RATE))
    assert extractor(resampled["audio"], return_tensors="pt")["input_values"].shape == (2, 98, 64)


def test_the_argument_is_checked_too(extractor, clips):
    with pytest.raises(ValueError, match="16000 Hz and got 8000 Hz"):
        extractor(clips["audio"], sampling_rate=8000)


@pytest.mark.parametrize("given", [{"bytes": b"RIFF", "path": None}, [{"bytes": b"RIFF", "path": None}]])
def test_audio_that_is_not_decoded(extractor, given):
    with pytest.raises(ValueError, match="waveform 0 is a dict of bytes, path, but.*load_audio"):
        extractor(given, sampling_rate=RATE)


def test_channels_of_a_dictionary_need_their_axis(extractor):
    clip = {"array": stereo(0).T, "sampling_rate": RATE}
    with pytest.raises(ValueError, match=r"shape \(2, 16000\).*channel_axis"):
        extractor(clip)
    values = extractor(clip, channel_axis=0, return_tensors="pt")["input_values"]
    mono = extractor(stereo(0).mean(1), sampling_rate=RATE, return_tensors="pt")["input_values"]
    torch.testing.assert_close(values, mono, atol=1e-4, rtol=0)
