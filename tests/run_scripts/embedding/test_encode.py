"""From audio files to vectors."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from feature_extraction import AudioDecodingError, load_audio
from run_scripts.embedding import encode
from run_scripts.embedding.encode import embed_files


def write_noise(path: Path, seconds: float, rate: int) -> Path:
    """Noise whose pitch and loudness change, at one level or another for each file."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.1 * (1.1 + np.sin(time))
    soundfile.write(path, noise + 0.1 * np.sin(2 * np.pi * 300 * time * (1 + time / 10)), rate)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three formats and rates, from shorter than a window to 21 s."""
    folder = tmp_path_factory.mktemp("files")
    lengths = {"a.wav": (0.3, 16000), "b.flac": (21.3, 44100), "c.mp3": (9.7, 22050), "d.wav": (11.0, 16000)}
    return [write_noise(folder / name, *length) for name, length in lengths.items()]


@pytest.fixture(scope="module")
def expected(encoder, files: list[Path]):
    """What the model gives for each file by itself."""
    model, extractor = encoder
    with torch.inference_mode():
        inputs = [extractor(load_audio(file), sampling_rate=16000, return_tensors="pt") for file in files]
        return [model(**one) for one in inputs]


def test_vectors_are_those_of_the_model(encoder, files, expected):
    vectors = embed_files(*encoder, files)
    assert vectors.shape == (4, 1536) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, torch.cat([outputs.pooler_output for outputs in expected]), atol=1e-5)


def test_long_recordings_are_read_in_parts(encoder, files, expected, monkeypatch):
    """All but the first file are longer than what is decoded at once, and the last window of each is a partial one."""
    monkeypatch.setattr(encode, "SAMPLES_AT_ONCE", 40000)
    monkeypatch.setattr(encode, "WINDOWS_AT_ONCE", 2)
    monkeypatch.setattr("feature_extraction.audio.BLOCK", 10000)
    lengths, encode_batch = [], encode._encode

    def spy(model, extractor, waveforms):
        lengths.extend(map(len, waveforms))
        return encode_batch(model, extractor, waveforms)

    monkeypatch.setattr(encode, "_encode", spy)
    windows = embed_files(*encoder, files, windows=True)
    assert max(lengths) <= 2 * 15360 + 240
    for found, outputs in zip(windows, expected, strict=True):
        np.testing.assert_allclose(found, outputs.last_hidden_state[0], atol=1e-4)
    np.testing.assert_allclose(embed_files(*encoder, files), [found.mean(0) for found in windows], atol=1e-5)


def test_a_bad_file_is_named(encoder, files, tmp_path: Path):
    (tmp_path / "bad.wav").write_text("no audio")
    with pytest.raises(AudioDecodingError, match="bad.wav is not audio"):
        embed_files(*encoder, [files[0], tmp_path / "bad.wav"])
    assert embed_files(*encoder, []).shape == (0, 1536)
