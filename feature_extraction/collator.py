"""Labelled clips for the Trainer: decode each row, make each batch."""

from typing import Any

import numpy as np
import torch

from .audio import load_audio
from .feature_extraction_cola import COLAFeatureExtractor
from .segments import random_segments


class ClipDecoder:
    """
    A transform for `Dataset.with_transform`: rows -> `waveform` and `labels`, decoded when a row is asked for.

    Args:
        extractor ([`COLAFeatureExtractor`]):
            Says the sampling rate.
        audio_column, label_column (`str`, *optional*, default to `"audio"` and `"label"`):
            The columns to read. Audio may be anything that [`open_audio`] takes.
        num_frames (`int`, *optional*):
            Take a random segment of this many frames of each clip, as the paper trains. Defaults to the whole clip.
    """

    def __init__(
        self,
        extractor: COLAFeatureExtractor,
        audio_column: str = "audio",
        label_column: str = "label",
        num_frames: int | None = None,
    ):
        self.sampling_rate = extractor.sampling_rate
        self.audio_column = audio_column
        self.label_column = label_column
        self.num_samples = None if num_frames is None else extractor.num_samples(num_frames)

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        return {
            "waveform": [self._decode(clip) for clip in rows[self.audio_column]],
            "labels": rows[self.label_column],
        }

    def _decode(self, clip: Any) -> np.ndarray:
        if self.num_samples is None:
            return load_audio(clip, self.sampling_rate)
        # torch's random state is the one that the Trainer seeds, in each worker too.
        rng = np.random.default_rng(torch.randint(2**62, ()).item())
        return random_segments(clip, self.num_samples, rng, 1, self.sampling_rate)[0]


class COLADataCollator:
    """
    Makes a batch of rows with a `waveform` and `labels`: `input_values`, `attention_mask` and `labels`.

    Args:
        extractor ([`COLAFeatureExtractor`]):
            Makes the features.
    """

    def __init__(self, extractor: COLAFeatureExtractor):
        self.extractor = extractor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        waveforms = [row["waveform"] for row in rows]
        batch = self.extractor(waveforms, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}
