"""The embedders."""

import numpy as np

from feature_extraction import COLAFeatureExtractor
from run_scripts.embedding.embedders import log_mel_statistics


def test_log_mel_statistics_ignore_padding():
    extractor, rng = COLAFeatureExtractor(), np.random.default_rng(0)
    short, long = rng.standard_normal(4000), rng.standard_normal(40000)
    vectors = log_mel_statistics(extractor)([short, long])
    frames = extractor(short, sampling_rate=16000, return_tensors="np")["input_values"][0, : 1 + (4000 - 400) // 160]
    expected = np.concatenate([frames.mean(0), frames.std(0), frames.max(0)])
    np.testing.assert_allclose(vectors[0], expected, atol=1e-4)
