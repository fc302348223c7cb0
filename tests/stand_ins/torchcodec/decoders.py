"""The decoder of audio and what it returns, with the names and shapes of torchcodec."""

import io
from types import SimpleNamespace

import soundfile
import soxr
import torch


class AudioDecoder:
    def __init__(
        self,
        source: str | bytes,
        *,
        stream_index: int | None = None,
        sample_rate: int | None = None,
        num_channels: int | None = None,
    ):
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        if sample_rate not in (None, rate):
            samples, rate = soxr.resample(samples, rate, sample_rate), sample_rate
        if num_channels == 1:
            samples = samples.mean(axis=1, keepdims=True)
        self._samples, self._rate = torch.from_numpy(samples.T.copy()), rate
        self.metadata = SimpleNamespace()

    def get_all_samples(self) -> SimpleNamespace:
        return self.get_samples_played_in_range()

    def get_samples_played_in_range(self, start: float = 0.0, stop: float | None = None) -> SimpleNamespace:
        last = None if stop is None else round(stop * self._rate)
        return SimpleNamespace(data=self._samples[:, round(start * self._rate) : last], sample_rate=self._rate)


class VideoDecoder:
    """`datasets` imports this class, too."""
