"""The embedders, and embedding many clips."""

from pathlib import Path

import numpy as np

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.evaluation.embedders import embed_all, encoder_embedder, log_mel_statistics


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
