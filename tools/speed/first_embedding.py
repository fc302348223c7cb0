"""Embeds one clip of noise with the checkpoint of this repository, in a fresh process."""

import numpy as np
import torch
from transformers import logging

from feature_extraction import COLAFeatureExtractor
from modeling_cola import COLAModel
from run_scripts.common.command_line import ROOT


if __name__ == "__main__":
    logging.disable_progress_bar()
    checkpoint = ROOT / "modeling_cola" / "cola-compact"
    extractor, model = COLAFeatureExtractor.from_pretrained(checkpoint), COLAModel.from_pretrained(checkpoint)
    waveform = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    with torch.inference_mode():
        model(**extractor(waveform, sampling_rate=16000, return_tensors="pt"))
