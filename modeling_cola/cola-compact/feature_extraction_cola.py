"""Feature extractor for COLA: waveform -> log-mel frames."""

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank
from transformers.utils import PaddingStrategy, TensorType, logging


logger = logging.get_logger(__name__)

# Frames transformed at once, which bounds the memory that the spectrum of a long recording takes.
FRAME_CHUNK_SIZE = 16384


class COLAFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Turns 16 kHz waveforms into the authors' log-mel frames (paper, section 4.1, and their TensorFlow code): periodic
    Hann windows of `win_length` samples every `hop_length`, not centred, FFT magnitude, HTK mel bands whose triangles
    are linear in mel, clipped at `mel_floor`, natural logarithm.

    A clip of n samples has `1 + (n - win_length) // hop_length` valid frames and at least one; every clip is padded
    with the log of the floor, which is what silence is, to at least `min_frames`.

    Args:
        feature_size (`int`, *optional*, defaults to 64):
            Mel bands.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the waveforms, in hertz.
        padding_value (`float`, *optional*):
            Value of padded frames. Defaults to `log(mel_floor)`.
        win_length (`int`, *optional*, defaults to 400):
            Samples of a frame.
        hop_length (`int`, *optional*, defaults to 160):
            Samples from one frame to the next.
        n_fft (`int`, *optional*, defaults to 1024):
            Size of the FFT.
        fmin (`float`, *optional*, defaults to 60.0):
            Lower edge of the lowest mel band, in hertz.
        fmax (`float`, *optional*, defaults to 7800.0):
            Upper edge of the highest mel band, in hertz.
        mel_floor (`float`, *optional*, defaults to 1e-5):
            Magnitudes are clipped below this.
        min_frames (`int`, *optional*, defaults to 96):
            The least number of frames returned: one window of the model.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Whether to scale each clip to `target_rms` over its valid samples, so that loudness does not move the
            features. Without it the values are those of the authors' log-mel of the waveform as it is.
        target_rms (`float`, *optional*, defaults to 0.008):
            Root mean square after normalisation. A segment of 15,600 samples then has an L2 norm of 1, the authors'
            normalisation, and a clip of another length the same level.

    Raises:
        `ValueError`: for a `padding_side` that is not `"right"`: a clip starts with its first frame.
    """

    model_input_names = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 64,
        sampling_rate: int = 16000,
        padding_value: float | None = None,
        win_length: int = 400,
        hop_length: int = 160,
        n_fft: int = 1024,
        fmin: float = 60.0,
        fmax: float = 7800.0,
        mel_floor: float = 1e-5,
        min_frames: int = 96,
        do_normalize: bool = True,
        target_rms: float = 0.008,
        **kwargs: Any,
    ):
        if padding_value is None:
            padding_value = math.log(mel_floor)
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        if self.padding_side != "right":
            raise ValueError(f"padding_side is {self.padding_side!r}: clips are padded on the right; leave it out.")
        self.win_length = win_length
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.fmin = fmin
        self.fmax = fmax
        self.mel_floor = mel_floor
        self.min_frames = min_frames
        self.do_normalize = do_normalize
        self.target_rms = target_rms
        # `to_dict` leaves out exactly these two names.
        self.mel_filters = mel_filter_bank(
            num_frequency_bins=n_fft // 2 + 1,
            num_mel_filters=feature_size,
            min_frequency=fmin,
            max_frequency=fmax,
            sampling_rate=sampling_rate,
            norm=None,
            mel_scale="htk",
            triangularize_in_mel_space=True,
        ).astype(np.float32)
        self.window = torch.hann_window(win_length, periodic=True).numpy()

    def num_samples(self, num_frames: int) -> int:
        """Samples of which exactly `num_frames` frames are made: 15,600 for a segment of 96."""
        return self.win_length + (num_frames - 1) * self.hop_length

    def log_mel(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The features of a batch that is a tensor already, on its device.

        Args:
            waveforms (`torch.FloatTensor` of shape `(batch_size, num_samples)`):
                Samples between -1 and 1, zero from each clip's length on.
            lengths (`torch.LongTensor` of shape `(batch_size,)`):
                Valid samples of each clip, at least 1.

        Returns:
            `input_values` float32 `(batch_size, num_frames, feature_size)` and `attention_mask` int64
            `(batch_size, num_frames)`.
        """
        if self.do_normalize:
            peak = waveforms.abs().amax(-1, keepdim=True)
            scaled = waveforms / peak.clamp_min(torch.finfo(waveforms.dtype).tiny)  # squares must not underflow
            rms = (scaled.square().sum(-1, keepdim=True) / lengths[:, None]).sqrt()
            waveforms = scaled * (self.target_rms / rms.clamp_min(1e-12))  # silence stays silence

        num_frames = max(1 + (waveforms.shape[-1] - self.win_length) // self.hop_length, self.min_frames)
        missing = max(self.num_samples(num_frames) - waveforms.shape[-1], 0)
        frames = F.pad(waveforms, (0, missing)).unfold(-1, self.win_length, self.hop_length)

        window = torch.from_numpy(self.window).to(waveforms.device)
        mel_filters = torch.from_numpy(self.mel_filters).to(waveforms.device)
        log_mel = [
            (torch.fft.rfft(chunk * window, n=self.n_fft).abs() @ mel_filters).clamp_min(self.mel_floor).log()
            for chunk in frames.split(max(FRAME_CHUNK_SIZE // len(frames), 1), dim=1)
        ]
        valid = (1 + (lengths - self.win_length).clamp_min(0) // self.hop_length)[:, None]
        attention_mask = (torch.arange(num_frames, device=waveforms.device) < valid).long()
        input_values = torch.cat(log_mel, dim=1).masked_fill(attention_mask[..., None] == 0, self.padding_value)
        return input_values, attention_mask

    def __call__(
        self,
        raw_speech: np.ndarray | torch.Tensor | list,
        sampling_rate: int | None = None,
        padding: bool | str | PaddingStrategy = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | TensorType | None = None,
        channel_axis: int | None = None,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Args:
            raw_speech (`np.ndarray`, `torch.Tensor`, `list[float]` or a list of these):
                One waveform, or a batch: a list of waveforms of any lengths, or an array `(batch_size, num_samples)`.
                Floats between -1 and 1, or int16, int32, int8 or uint8 samples, which are scaled to that.
            sampling_rate (`int`, *optional*):
                The rate at which the waveforms were sampled; it is compared with the extractor's own.
            padding (`bool` or `str`, *optional*, defaults to `True`):
                `True` or `"longest"`, `"max_length"`, or `False` for a list of arrays of each clip's own length.
            max_length (`int`, *optional*):
                Frames to pad to with `padding="max_length"` and to cut at with `truncation`.
            truncation (`bool`, *optional*, defaults to `False`):
                Whether to cut clips at `max_length` frames.
            pad_to_multiple_of (`int`, *optional*):
                Pads to a multiple of this many frames.
            return_attention_mask (`bool`, *optional*):
                Whether to return the mask. Defaults to the extractor's own `return_attention_mask`, `True`.
            return_tensors (`str`, *optional*):
                `"pt"` or `"np"`; without it a list of arrays.
            channel_axis (`int`, *optional*):
                The axis of each waveform that holds its channels, over which it is averaged.
            device (`str` or `torch.device`, *optional*):
                Where to compute. Defaults to the device of the waveforms.

        Returns:
            [`BatchFeature`] with `input_values` float32 `(batch_size, num_frames, feature_size)` and
            `attention_mask` `(batch_size, num_frames)`, 1 for valid frames.

        Raises:
            `ValueError`: if the sampling rate is wrong, or a waveform is empty, not finite, of another number of
            dimensions or of another type; the message says which and what to do.
        """
        if sampling_rate is None:
            logger.warning(
                f"Pass `sampling_rate` to `{self.__class__.__name__}()`: without it a waveform at another rate than "
                f"{self.sampling_rate} Hz is taken for one at {self.sampling_rate} Hz, silently."
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"This feature extractor needs audio sampled at {self.sampling_rate} Hz and got {sampling_rate} Hz. "
                f"Resample it first, for example with `torchaudio.functional.resample(waveform, {sampling_rate}, "
                f"{self.sampling_rate})`."
            )
        waveforms, lengths = self._batch(raw_speech, channel_axis, device)
        input_values, attention_mask = self.log_mel(waveforms, lengths)

        padding = self._get_padding_strategies(padding=padding, max_length=max_length)
        if truncation and max_length is None:
            raise ValueError("`truncation=True` needs `max_length`, in frames.")
        if truncation:
            input_values, attention_mask = input_values[:, :max_length], attention_mask[:, :max_length]
        num_frames = input_values.shape[1]
        if padding == PaddingStrategy.MAX_LENGTH:
            num_frames = max(num_frames, max_length)
        if pad_to_multiple_of:
            num_frames = math.ceil(num_frames / pad_to_multiple_of) * pad_to_multiple_of
        missing = num_frames - input_values.shape[1]
        input_values = F.pad(input_values, (0, 0, 0, missing), value=self.padding_value)
        attention_mask = F.pad(attention_mask, (0, missing))

        data = {"input_values": input_values, "attention_mask": attention_mask}
        if padding == PaddingStrategy.DO_NOT_PAD:
            own = attention_mask.sum(-1).clamp_min(min(self.min_frames, num_frames)).tolist()
            data = {name: [row[:n] for row, n in zip(rows, own)] for name, rows in data.items()}
        if return_tensors != TensorType.PYTORCH:
            data = {name: [row.cpu().numpy() for row in rows] for name, rows in data.items()}
        if not (self.return_attention_mask if return_attention_mask is None else return_attention_mask):
            del data["attention_mask"]
        return BatchFeature(data, tensor_type=return_tensors)

    def _batch(
        self, raw_speech: np.ndarray | torch.Tensor | list, channel_axis: int | None, device: str | torch.device | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Checks the input and makes it float32 waveforms `[B, N]`, zero-padded, and their lengths `[B]`."""
        if isinstance(raw_speech, (list, tuple)):
            is_batch = len(raw_speech) > 0 and isinstance(raw_speech[0], (np.ndarray, torch.Tensor, list, tuple))
            clips = raw_speech if is_batch else [raw_speech]
        elif isinstance(raw_speech, (np.ndarray, torch.Tensor)):
            is_batch = raw_speech.ndim == (2 if channel_axis is None else 3)
            clips = raw_speech if is_batch else [raw_speech]
            if is_batch and channel_axis is None and raw_speech.shape[1] <= 8 < raw_speech.shape[0]:
                raise ValueError(
                    f"An array of shape {tuple(raw_speech.shape)} looks like one waveform of {raw_speech.shape[1]} "
                    "channels: pass `channel_axis=1` to average them."
                )
        else:
            raise ValueError(
                f"Expected a waveform or a list of waveforms (numpy, torch or list), got {type(raw_speech).__name__}. "
                "To read a file use `feature_extraction.load_audio`."
            )
        waveforms = [_mono(clip, channel_axis, f"waveform {i}") for i, clip in enumerate(clips)]
        if not waveforms:
            raise ValueError("The batch is empty: give at least one waveform.")
        device = device or waveforms[0].device
        lengths = torch.tensor([len(waveform) for waveform in waveforms], device=device)
        batch = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True).to(device)
        if not batch.isfinite().all():
            bad = (~batch.isfinite()).any(-1).nonzero()[0, 0].item()
            raise ValueError(f"waveform {bad} holds NaN or infinite samples: repair or drop it.")
        return batch, lengths


def _mono(clip: np.ndarray | torch.Tensor | list, channel_axis: int | None, name: str) -> torch.Tensor:
    """One clip of any accepted type -> float32 `[num_samples]` between -1 and 1."""
    if isinstance(clip, (list, tuple)):
        try:
            clip = np.asarray(clip, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} is a list of other things than numbers: {error}. To read files use "
                "`feature_extraction.load_audio`."
            ) from error
    if isinstance(clip, np.ndarray) and clip.dtype.kind in "fiu":
        clip = torch.from_numpy(np.ascontiguousarray(clip))
    dtype = getattr(clip, "dtype", type(clip))
    if dtype == torch.uint8:
        clip = (clip.float() - 128) / 128
    elif dtype in (torch.int8, torch.int16, torch.int32):
        clip = clip.float() / -float(torch.iinfo(dtype).min)
    elif not (isinstance(clip, torch.Tensor) and clip.is_floating_point()):
        raise ValueError(f"{name} is of type {dtype}: give floats between -1 and 1, or int8, int16, int32 or uint8.")
    if channel_axis is not None and clip.ndim == 2:
        clip = clip.float().mean(channel_axis)
    if clip.ndim != 1:
        raise ValueError(
            f"{name} has shape {tuple(clip.shape)}, but a waveform has one dimension. If one of these is its "
            "channels, pass it as `channel_axis` to average them."
        )
    if len(clip) == 0:
        raise ValueError(f"{name} is empty: it must have at least one sample.")
    return clip.float()


__all__ = ["COLAFeatureExtractor"]
