"""From audio files to vectors."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from feature_extraction import AudioDecodingError, load_audio, load_audio_dataset
from helpers import count_decoded, write_tones
from run_scripts.embedding import encode
from run_scripts.embedding.embedders import encoder_embedder
from run_scripts.embedding.encode import SAMPLES_AT_ONCE, embed_files, embed_in_batches, embed_split


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
    lengths, build = [], encode.encoder_embedder

    def spying_embedder(*args, **kwargs):
        embed = build(*args, **kwargs)

        def spy(waveforms):
            lengths.extend(map(len, waveforms))
            return embed(waveforms)

        return spy

    monkeypatch.setattr(encode, "encoder_embedder", spying_embedder)
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


def test_vectors_come_back_in_order_whatever_the_batches(encoder, monkeypatch):
    embed, rng = encoder_embedder(*encoder), np.random.default_rng(0)
    clips = [(length, rng.standard_normal(length)) for length in (30000, 5000, 17000, 400, 22000)]
    bad = AudioDecodingError("a clip is not audio")
    monkeypatch.setattr(encode, "CLIPS_IN_BATCH", 2)
    monkeypatch.setattr(encode, "CLIPS_AT_ONCE", 4)
    lengths, vectors = zip(*embed_in_batches(embed, [*clips[:2], ("bad", bad), *clips[2:]]))
    assert lengths == (30000, 5000, "bad", 17000, 400, 22000) and vectors[2] is bad
    expected = np.concatenate([embed([waveform]) for _, waveform in clips])
    np.testing.assert_allclose([*vectors[:2], *vectors[3:]], expected, atol=1e-5)


def test_one_long_clip_does_not_pad_the_short_ones():
    lengths, batches = [16000] * 20 + [400 * 16000] + [32000] * 19, []

    def embed(batch: list[np.ndarray]) -> list[int]:
        batches.append([len(waveform) for waveform in batch])
        return batches[-1]

    clips = embed_in_batches(embed, ((length, np.zeros(length)) for length in lengths))
    assert [vector for _, vector in clips] == lengths
    assert max(len(batch) * max(batch) for batch in batches) <= SAMPLES_AT_ONCE and batches[-1] == [400 * 16000]
    assert [len(batch) for batch in batches] == [32, 7, 1]


def test_a_split_is_not_decoded_at_once(encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = write_tones(tmp_path, {"a": 200.0, "b": 2000.0}, 4, seconds=1.0)
    soundfile.write(data / "a" / "1.wav", np.tile(load_audio(data / "a" / "0.wav"), 20), 16000)
    clips = load_audio_dataset(str(data))["train"]
    embed = encoder_embedder(*encoder)
    before, _ = embed_split({"encoder": embed}, clips, "test")
    monkeypatch.setattr(encode, "SAMPLES_AT_ONCE", 40000)
    decoded, held = count_decoded(monkeypatch), []

    def spy(waveforms: list[np.ndarray]) -> np.ndarray:
        held.append((sum(map(len, waveforms)), sum(decoded)))
        return embed(waveforms)

    after, seconds = embed_split({"encoder": spy, "again": embed}, clips, "test")
    assert seconds.keys() == after.keys() == {"encoder", "again"} and min(seconds.values()) > 0
    for vectors in after.values():
        np.testing.assert_allclose(vectors, before["encoder"], rtol=1e-5, atol=1e-5)
    assert [samples for samples, _ in held] == [16000, 320000, 32000, 32000, 32000]
    # When a batch is embedded, no more than one clip after it is decoded, and each clip is decoded once.
    assert [total for _, total in held] == [336000, 352000, 384000, 416000, 432000]
