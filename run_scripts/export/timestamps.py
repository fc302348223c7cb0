"""Embeddings over time, which HEAR and X-ARES ask for."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from modeling_cola.modeling_cola import folded_batch_norm
from run_scripts.common.checkpoints import load_encoder


# From one embedding to the next. Two of them are the stride of the compact encoder; HEAR asks for 50 ms at most.
HOP_FRAMES = 4
# How many windows of each clip are encoded or pooled at once.
CHUNK_SIZE = 16


class TimestampEmbedder(nn.Module):
    """
    Computes the embeddings of a waveform every 40 ms, each of the window of 0.96 s around it.

    The compact encoder convolves the waveform twice, from its first frame and from its fifth, and pools the feature
    maps in windows, rather than encode each frame in 24 windows. At its edges a window then sees the frames beyond it
    instead of padding. Any other encoder encodes each window by itself.

    Args:
        checkpoint (`str`):
            A folder, or the name of a model on the Hub.
    """

    def __init__(self, checkpoint: str):
        super().__init__()
        self.model, self.extractor = load_encoder(checkpoint)
        self.hop_samples = HOP_FRAMES * self.extractor.hop_length
        # Half a window of silence before the first frame nearly centres the first window on the start of the audio.
        self.half = self.model.config.window_size // 2
        window_samples = self.extractor.num_samples(self.model.config.window_size)
        self.first_centre = window_samples // 2 - self.half * self.extractor.hop_length

    def features(self, audio: torch.Tensor) -> dict[str, torch.Tensor]:
        """The log-mel frames of waveforms `[batch_size, num_samples]`."""
        return self.extractor(audio, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")

    @torch.inference_mode()
    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Embeds waveforms `[batch_size, num_samples]`.

        Returns:
            The embeddings `[batch_size, num_windows, hidden_size]`, and the centres of the windows in milliseconds
            `[num_windows]`.
        """
        config = self.model.config
        num_windows = max(audio.shape[1] - self.first_centre, 0) // self.hop_samples + 1
        num_frames = (num_windows - 1) * HOP_FRAMES + config.window_size
        # Silence is added to the frames: in the waveform it would change the loudness to which that is normalised.
        frames = self.features(audio)["input_values"]
        frames = F.pad(frames, (0, 0, self.half, num_frames), value=config.padding_value)[:, :num_frames]
        # The feature maps of whole recordings have those of each window if the network's stride divides its length.
        is_divided = config.encoder == "compact" and config.window_size % 8 == 0
        embed = self._pool_feature_maps if is_divided else self._encode_windows
        samples = self.first_centre + self.hop_samples * torch.arange(num_windows, device=audio.device)
        with folded_batch_norm(self.model):
            embeddings = embed(frames).float()
        return embeddings, 1000 * samples / self.extractor.sampling_rate

    def _encode_windows(self, frames: torch.Tensor) -> torch.Tensor:
        windows = frames.unfold(1, self.model.config.window_size, HOP_FRAMES).transpose(2, 3)
        return _in_chunks(lambda chunk: self.model.encoder(*chunk)[0], [windows])

    def _pool_feature_maps(self, frames: torch.Tensor) -> torch.Tensor:
        encoder, config = self.model.encoder, self.model.config
        size = config.window_size
        num_windows = (frames.shape[1] - size) // HOP_FRAMES + 1
        embeddings = frames.new_empty(len(frames), num_windows, encoder.num_features)
        for first in range(min(2, num_windows)):
            x = (frames[:, first * HOP_FRAMES :] - encoder.zero).unsqueeze(1)
            windows = [
                features.unfold(2, size // stride, 2 * HOP_FRAMES // stride).permute(0, 2, 1, 4, 3)
                for features, stride in zip(encoder.feature_maps(x)[0], (2, 4, 8)[-config.pooling_stages :])
            ]
            embeddings[:, first::2] = _in_chunks(encoder.pooling, windows)
        return embeddings


def _in_chunks(embed: Callable[[list[torch.Tensor]], torch.Tensor], windows: list[torch.Tensor]) -> torch.Tensor:
    """Embeds windows, which consist of one or several tensors `[batch_size, num_windows, ...]`."""
    chunks = zip(*(tensor.split(CHUNK_SIZE, dim=1) for tensor in windows))
    return torch.cat(
        [embed([tensor.flatten(0, 1) for tensor in chunk]).unflatten(0, chunk[0].shape[:2]) for chunk in chunks],
        dim=1,
    )
