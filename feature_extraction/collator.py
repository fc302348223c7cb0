"""Decoding and batching of labelled clips, for the Trainer."""

from typing import Any

import numpy as np
import torch

from .audio import load_audio
from .errors import DataError
from .feature_extraction_cola import COLAFeatureExtractor
from .segments import random_segments


class ClipDecoder:
    """
    A transform for `Dataset.with_transform` that decodes the audio of rows when they are asked for. It returns a
    `waveform` and, where there are any, the `labels` of each row.

    Args:
        extractor ([`COLAFeatureExtractor`]):
            The feature extractor, which says the sampling rate.
        audio_column (`str`, *optional*, defaults to `"audio"`):
            The column that holds the audio, as anything that [`open_audio`] takes.
        label_column (`str`, *optional*, defaults to `"label"`):
            The column that holds the labels.
        num_frames (`int`, *optional*):
            Length of the random segment to take of each clip, in frames, as the paper does in training. Defaults to
            the whole clip.
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
        if self.audio_column not in rows:
            raise DataError(
                f"There is no column {self.audio_column!r}: name that of the audio as `audio_column`. The Trainer "
                "removes it unless its `remove_unused_columns` is False."
            )
        labels = {"labels": rows[self.label_column]} if self.label_column in rows else {}
        return {"waveform": [self._decode(clip) for clip in rows[self.audio_column]], **labels}

    def _decode(self, clip: Any) -> np.ndarray:
        if self.num_samples is None:
            return load_audio(clip, self.sampling_rate)
        # The Trainer seeds torch's random state, in each worker too.
        rng = np.random.default_rng(torch.randint(2**62, ()).item())
        segments = random_segments(clip, self.num_samples, rng, count=1, sampling_rate=self.sampling_rate)
        return segments.waveforms[0]


class COLADataCollator:
    """
    Makes a batch of rows that have a `waveform` and, for training, `labels`. The batch has `input_values`,
    `attention_mask` and, if there are any, `labels`.

    Args:
        extractor ([`COLAFeatureExtractor`]):
            The feature extractor, which computes the features and pads them.
    """

    def __init__(self, extractor: COLAFeatureExtractor):
        self.extractor = extractor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        waveforms = [row["waveform"] for row in rows]
        batch = self.extractor(waveforms, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        labels = {"labels": torch.tensor([row["labels"] for row in rows])} if "labels" in rows[0] else {}
        return {**batch, **labels}
