"""The embedders, and embedding many clips."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from feature_extraction import COLAFeatureExtractor, load_audio, load_audio_dataset
from helpers import count_decoded, write_tones
from modeling_cola import COLAModel
from run_scripts.embedding import embedders
from run_scripts.embedding.batches import MAX_BATCH_SAMPLES
from run_scripts.embedding.embedders import embed_all, embed_clips, encoder_embedder, log_mel_statistics


def test_log_mel_statistics_ignore_padding():
    extractor, rng = COLAFeatureExtractor(), np.random.default_rng(0)
    short, long = rng.standard_normal(4000), rng.standard_normal(40000)
    vectors = log_mel_statistics(extractor)([short, long])
    frames = extractor(short, sampling_rate=16000, return_tensors="np")["input_values"][0, : 1 + (4000 - 400) // 160]
    expected = np.concatenate([frames.mean(0), frames.std(0), frames.max(0)])
    np.testing.assert_allclose(vectors[0], expected, atol=1e-4)


def test_vectors_come_back_in_order_whatever_the_batches(pretrained: Path):
    embed = encoder_embedder(COLAModel.from_pretrained(pretrained), COLAFeatureExtractor())
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(length) for length in (30000, 5000, 17000, 400, 22000)]
    singly = np.concatenate([embed([waveform]) for waveform in waveforms])
    np.testing.assert_allclose(embed_all(embed, waveforms, "test", batch_size=2), singly, atol=1e-4)


def test_one_long_clip_does_not_pad_the_short_ones():
    waveforms = [np.zeros(length) for length in [16000] * 20 + [600 * 16000] + [32000] * 19]
    batches = []

    def embed(batch: list[np.ndarray]) -> np.ndarray:
        batches.append([len(waveform) for waveform in batch])
        return np.array([[len(waveform)] for waveform in batch])

    vectors = embed_all(embed, waveforms, "test")
    assert vectors.tolist() == [[len(waveform)] for waveform in waveforms]
    assert max(len(batch) * max(batch) for batch in batches) <= MAX_BATCH_SAMPLES and batches[-1] == [600 * 16000]
    assert [len(batch) for batch in batches] == [32, 7, 1]


def test_long_clips_are_not_all_decoded_at_once(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = write_tones(tmp_path, {"a": 200.0, "b": 2000.0}, 4, seconds=1.0)
    soundfile.write(data / "a" / "1.wav", np.tile(load_audio(data / "a" / "0.wav"), 20), 16000)
    clips = load_audio_dataset(str(data))["train"]
    embed = encoder_embedder(COLAModel.from_pretrained(pretrained), COLAFeatureExtractor())
    before, _ = embed_clips({"encoder": embed}, clips, "test")
    monkeypatch.setattr(embedders, "SAMPLES_AT_ONCE", 40000)
    decoded, held = count_decoded(monkeypatch), []

    def spy(waveforms: list[np.ndarray]) -> np.ndarray:
        held.append((sum(map(len, waveforms)), sum(decoded)))
        return embed(waveforms)

    after, _ = embed_clips({"encoder": spy}, clips, "test")
    np.testing.assert_allclose(after["encoder"], before["encoder"], atol=1e-6)
    assert [samples for samples, _ in held] == [16000, 320000, 32000, 32000, 32000]
    # When a batch is embedded, no more than one clip after it is decoded.
    assert [total for _, total in held] == [336000, 352000, 384000, 416000, 432000]
