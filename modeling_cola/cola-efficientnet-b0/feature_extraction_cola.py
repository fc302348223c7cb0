"""Feature extractor for COLA, from waveforms to log-mel frames."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank
from transformers.utils import PaddingStrategy, TensorType, logging


logger = logging.get_logger(__name__)

# How many frames are transformed at once. This bounds the memory that the spectrum of a long recording takes, and on a
# CPU decides the speed: what is computed has to fit into the cache.
FRAME_CHUNK_SIZE = 1024
DEVICE_FRAME_CHUNK_SIZE = 2**17
# How many samples of a batch are scaled and squared at once on a CPU, and of each clip on another device.
SAMPLE_CHUNK_SIZE = 2**18
DEVICE_SAMPLE_CHUNK_SIZE = 2**20
# The longer axis of an array is time if it is longer than this.
MOST_CHANNELS = 32


class COLAFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Computes the log-mel frames of 16 kHz waveforms as the authors do (paper, section 4.1, and their TensorFlow code):
    periodic Hann windows of `win_length` samples every `hop_length` samples, without centring; the magnitude of the
    FFT; HTK mel bands whose triangles are linear in mel; a lower limit of `mel_floor`; the natural logarithm.

    A clip of n samples has `1 + (n - win_length) // hop_length` valid frames, and at least one. Clips are padded to at
    least `min_frames`, and to the longest of the batch where tensors or arrays are asked for, with the log of the
    lower limit, which is also the value of silence.

    Args:
        feature_size (`int`, *optional*, defaults to 64):
            Number of mel bands.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the waveforms, in hertz.
        padding_value (`float`, *optional*):
            Value of padded frames. Defaults to `log(mel_floor)`.
        win_length (`int`, *optional*, defaults to 400):
            Length of a frame, in samples.
        hop_length (`int`, *optional*, defaults to 160):
            Distance between the starts of consecutive frames, in samples.
        n_fft (`int`, *optional*, defaults to 1024):
            Size of the FFT, in samples.
        fmin (`float`, *optional*, defaults to 60.0):
            Lower edge of the lowest mel band, in hertz.
        fmax (`float`, *optional*, defaults to 7800.0):
            Upper edge of the highest mel band, in hertz.
        mel_floor (`float`, *optional*, defaults to 1e-5):
            Lower limit of the magnitudes in the mel bands, before the logarithm.
        min_frames (`int`, *optional*, defaults to 96):
            The smallest number of frames that is returned. The default is one window of the model.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Whether to scale each clip to `target_rms` over its valid samples, so that its loudness does not change the
            features. If `False`, the features are the authors' log-mel of the waveform as it is.
        target_rms (`float`, *optional*, defaults to 0.008):
            Root mean square of a clip after normalisation. With the default a segment of 15,600 samples has an L2 norm
            of 1, which is the authors' normalisation, and clips of other lengths have the same level.

    Raises:
        `ValueError`: if a value is out of its range, a frame does not fit into the FFT, or `padding_side` is not
            `"right"`, since only the end of a clip can be padded.
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
        for name, value in (("mel_floor", mel_floor), ("target_rms", target_rms)):
            if not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be above 0, got {value}.")
        if padding_value is None:
            padding_value = math.log(mel_floor)
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        if self.padding_side != "right":
            raise ValueError(
                f"padding_side is {self.padding_side!r}, but clips are padded on the right: leave it out."
            )
        sizes = {"feature_size": feature_size, "sampling_rate": sampling_rate, "win_length": win_length}
        for name, value in (sizes | {"hop_length": hop_length, "min_frames": min_frames}).items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if win_length > n_fft:
            raise ValueError(f"`win_length` is {win_length}, but a frame must fit into `n_fft`, which is {n_fft}.")
        if not 0 <= fmin < fmax <= sampling_rate / 2:
            raise ValueError(
                f"`fmin` and `fmax` must be between 0 and half of `sampling_rate`, {sampling_rate / 2:g} Hz, got "
                f"{fmin} and {fmax}."
            )
        if not math.isfinite(padding_value):
            raise ValueError(f"`padding_value` must be finite, got {padding_value}.")
        self.win_length = win_length
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.fmin = fmin
        self.fmax = fmax
        self.mel_floor = mel_floor
        self.min_frames = min_frames
        self.do_normalize = do_normalize
        self.target_rms = target_rms
        # The two attributes below must have these names, which are the ones that `to_dict` leaves out.
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
        """Returns how many samples make exactly `num_frames` frames: 15,600 for the 96 frames of a segment."""
        return self.win_length + (num_frames - 1) * self.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Returns how many frames lie in `num_samples` samples: 96 in the 15,600 samples of a segment, 0 in 399."""
        return max(1 + (num_samples - self.win_length) // self.hop_length, 0)

    def log_mel(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Computes the features of a batch of waveforms in one tensor, on the device of the tensor.

        Args:
            waveforms (`torch.FloatTensor` of shape `(batch_size, num_samples)`):
                Samples between -1 and 1. After the end of a clip they must be zero.
            lengths (`torch.LongTensor` of shape `(batch_size,)`):
                Number of valid samples of each clip, at least 1.

        Returns:
            `input_values` of shape `(batch_size, num_frames, feature_size)`, float32, and `attention_mask` of shape
            `(batch_size, num_frames)`, int64, which is 1 for valid frames.
        """
        batch_size, num_samples = waveforms.shape
        num_frames = max(self.num_frames(num_samples), self.min_frames)
        if num_samples < self.num_samples(num_frames):
            waveforms = F.pad(waveforms, (0, self.num_samples(num_frames) - num_samples))
        window = torch.from_numpy(self.window).to(waveforms.device).expand(batch_size, 1, -1)
        if self.do_normalize:
            window = window * self._gain(waveforms, lengths)[:, None]  # cheaper than to scale all samples
        # Only these bins are in any mel band.
        used = np.flatnonzero(self.mel_filters.any(axis=1))
        bins = slice(int(used[0]), int(used[-1]) + 1)
        mel_filters = torch.from_numpy(self.mel_filters[bins]).to(waveforms.device)
        frames = waveforms.unfold(-1, self.win_length, self.hop_length)
        if torch.compiler.is_compiling():
            # The number of chunks would become part of an exported graph.
            log_mel = self._log_mel(frames * window, bins, mel_filters)
        else:
            log_mel = waveforms.new_empty(batch_size, num_frames, self.feature_size)
            size = FRAME_CHUNK_SIZE if waveforms.device.type == "cpu" else DEVICE_FRAME_CHUNK_SIZE
            clips_at_once = max(size // num_frames, 1)
            for first in range(0, batch_size, clips_at_once):
                clips = slice(first, first + clips_at_once)
                for start in range(0, num_frames, size):
                    chunk = slice(start, start + size)
                    log_mel[clips, chunk] = self._log_mel(frames[clips, chunk] * window[clips], bins, mel_filters)

        valid = (1 + (lengths - self.win_length).clamp_min(0) // self.hop_length)[:, None]
        attention_mask = (torch.arange(num_frames, device=waveforms.device) < valid).long()
        return log_mel.masked_fill_(attention_mask[..., None] == 0, self.padding_value), attention_mask

    def _log_mel(self, frames: torch.Tensor, bins: slice, mel_filters: torch.Tensor) -> torch.Tensor:
        """
        Computes the log-mel values `(..., feature_size)` of windowed frames `(..., win_length)`, from the bins of the
        spectrum to which the filters belong.
        """
        spectrum = torch.fft.rfft(frames, n=self.n_fft)[..., bins]
        if self.do_normalize:
            parts = torch.view_as_real(spectrum)
            parts = parts * parts  # as contiguous numbers; this is three times as fast as `abs`
            power = parts[..., 0] + parts[..., 1]
            if power.requires_grad:  # the square root has no finite gradient at 0
                power = power.clamp_min(torch.finfo(power.dtype).tiny)
            magnitude = power.sqrt()
        else:
            magnitude = spectrum.abs()  # the samples may be so large that their squares overflow
        return (magnitude @ mel_filters).clamp_min(self.mel_floor).log()

    def _gain(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """
        Computes the factors `(batch_size, 1)` that scale clips to `target_rms` over their valid samples. That of
        silence is 0.
        """
        # `aminmax` takes six times as long on a CPU.
        peak = torch.maximum(waveforms.amax(-1, keepdim=True), -waveforms.amin(-1, keepdim=True))
        divisor = peak.clamp_min(torch.finfo(waveforms.dtype).tiny)  # so that no square underflows
        if torch.compiler.is_compiling():
            # The number of parts would become part of an exported graph, and the norm of a long clip is less exact.
            energy = (waveforms / divisor).square().sum(-1, keepdim=True)
        else:
            is_cpu = waveforms.device.type == "cpu"
            size = max(SAMPLE_CHUNK_SIZE // len(waveforms), 1) if is_cpu else DEVICE_SAMPLE_CHUNK_SIZE
            parts = waveforms.split(size, dim=-1)
            energy = sum(torch.linalg.vector_norm(part / divisor, dim=-1, keepdim=True).square() for part in parts)
        rms = (energy / lengths[:, None]).sqrt()
        gain = self.target_rms / rms.clamp_min(1e-12) / divisor
        return torch.where(peak > 0, gain.clamp_max(torch.finfo(waveforms.dtype).max), 0)

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str | PaddingStrategy | None = None,
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
        Computes the features of one waveform or of a batch of waveforms.

        Args:
            raw_speech (`np.ndarray`, `torch.Tensor`, `list[float]`, decoded audio or a list of these):
                One waveform, or a batch: a list of waveforms of any lengths, or an array of shape
                `(batch_size, num_samples)`. The samples are floats between -1 and 1, or of type int8, int16, int32 or
                uint8, which are scaled to that range. Audio that `datasets` decodes is a waveform as well: an
                `AudioDecoder` of torchcodec, whose channels are averaged, what its methods return, or a dictionary
                with an `array`, or `raw` as in pipelines, and its `sampling_rate`.
            sampling_rate (`int`, *optional*):
                Sampling rate of the waveforms, in hertz, which is checked against the extractor's own, as is the one
                that decoded audio has itself.
            padding (`bool` or `str`, *optional*):
                `True` or `"longest"` to pad to the longest clip, `"max_length"` to pad to `max_length`, or `False` for
                a list of arrays, each as long as its clip. Defaults to `True` with `return_tensors`, since a tensor
                has one length, and to `False` without: what is batched later, by `pad`, must not be padded before,
                because the mask that `pad` adds takes all frames that are there for valid.
            max_length (`int`, *optional*):
                Number of frames to pad to with `padding="max_length"`, and to cut to with `truncation`.
            truncation (`bool`, *optional*, defaults to `False`):
                Whether to cut longer clips to `max_length` frames. What is cut off has no part in the features.
            pad_to_multiple_of (`int`, *optional*):
                Pads to a multiple of this number of frames.
            return_attention_mask (`bool`, *optional*):
                Whether to return the attention mask. Defaults to the extractor's attribute of this name, `True`.
            return_tensors (`str`, *optional*):
                `"pt"` for tensors or `"np"` for arrays. Defaults to lists of arrays.
            channel_axis (`int`, *optional*):
                The axis of each waveform that holds its channels, which are averaged.
            device (`str` or `torch.device`, *optional*):
                The device on which the features are computed. Defaults to that of the waveforms.
            kwargs (*optional*):
                What callers pass to other extractors. It is ignored, with a warning.

        Returns:
            [`BatchFeature`] with `input_values` of shape `(batch_size, num_frames, feature_size)`, float32, and
            `attention_mask` of shape `(batch_size, num_frames)`, which is 1 for valid frames, or with lists of such
            arrays of each clip.

        Raises:
            `ValueError`: if the sampling rate is not the extractor's, if `truncation` lacks `max_length`, if that is
                not positive, or if a waveform is empty, not finite, or of a shape or type that is not accepted. The
                message says which waveform it is and what to do.
        """
        if kwargs:
            logger.warning_once(
                f"`{self.__class__.__name__}()` ignores {', '.join(sorted(kwargs))}. Settings of the extractor, such "
                "as `do_normalize`, are arguments of `from_pretrained`."
            )
        if channel_axis not in (None, 0, 1, -1, -2):
            raise ValueError(f"`channel_axis` must be 0 or 1, got {channel_axis}: it is an axis of each waveform.")
        if max_length is not None and max_length < 1:
            raise ValueError(f"`max_length` must be at least 1 frame, got {max_length}.")
        if truncation and max_length is None:
            raise ValueError("`truncation=True` needs `max_length`, in frames.")
        clips = [
            _samples_and_rate(clip, f"waveform {i}") for i, clip in enumerate(_split_batch(raw_speech, channel_axis))
        ]
        self._check_sampling_rates(sampling_rate, [rate for _, rate in clips])
        max_samples = self.num_samples(max_length) if truncation else None
        waveforms, lengths = self._batch([samples for samples, _ in clips], channel_axis, device, max_samples)
        input_values, attention_mask = self.log_mel(waveforms, lengths)

        if padding is None:
            padding = return_tensors is not None
        padding = self._get_padding_strategies(padding=padding, max_length=max_length)
        if truncation:  # of the frames that short clips are padded to
            input_values, attention_mask = input_values[:, :max_length], attention_mask[:, :max_length]
        num_frames = input_values.shape[1]
        if padding == PaddingStrategy.MAX_LENGTH:
            num_frames = max(num_frames, max_length)
        if pad_to_multiple_of:
            num_frames = math.ceil(num_frames / pad_to_multiple_of) * pad_to_multiple_of
        if missing := num_frames - input_values.shape[1]:
            input_values = F.pad(input_values, (0, 0, 0, missing), value=self.padding_value)
            attention_mask = F.pad(attention_mask, (0, missing))

        data = {"input_values": input_values, "attention_mask": attention_mask}
        if padding == PaddingStrategy.DO_NOT_PAD:
            own = attention_mask.sum(-1).clamp_min(min(self.min_frames, num_frames)).tolist()
            data = {name: [row[:n] for row, n in zip(rows, own)] for name, rows in data.items()}
        if return_tensors != TensorType.PYTORCH:
            data = {name: [row.detach().cpu().numpy() for row in rows] for name, rows in data.items()}
        if not (self.return_attention_mask if return_attention_mask is None else return_attention_mask):
            del data["attention_mask"]
        return BatchFeature(data, tensor_type=return_tensors)

    def _check_sampling_rates(self, sampling_rate: int | None, own_rates: list[int | None]) -> None:
        """Checks the rate that the caller names, and those that decoded clips have themselves."""
        if sampling_rate is None and None in own_rates:
            logger.warning(
                f"Pass `sampling_rate` to `{self.__class__.__name__}()`. Without it every waveform is taken to be "
                f"sampled at {self.sampling_rate} Hz, and the features of any other are silently wrong."
            )
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(
                f"This feature extractor needs audio sampled at {self.sampling_rate} Hz and got {sampling_rate} Hz. "
                f"Resample it first, for example with `torchaudio.functional.resample(waveform, {sampling_rate}, "
                f"{self.sampling_rate})`."
            )
        for i, rate in enumerate(own_rates):
            if rate not in (None, self.sampling_rate):
                raise ValueError(
                    f"This feature extractor needs audio sampled at {self.sampling_rate} Hz, but waveform {i} has "
                    f"{rate} Hz. Let `datasets` resample it, with "
                    f'`dataset.cast_column("audio", Audio(sampling_rate={self.sampling_rate}))`, or decode it by '
                    "`feature_extraction.load_audio`."
                )

    def _batch(
        self, clips: list, channel_axis: int | None, device: str | torch.device | None, max_samples: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Checks the clips, cuts them to `max_samples`, if there is such a limit, and puts them into one tensor.

        Returns:
            The waveforms of shape `(batch_size, num_samples)`, float32, padded with zeros, and their lengths of shape
            `(batch_size,)`.
        """
        waveforms = [_mono(clip, channel_axis, f"waveform {i}")[:max_samples] for i, clip in enumerate(clips)]
        if not waveforms:
            raise ValueError("The batch is empty: give at least one waveform.")
        device = device or waveforms[0].device
        lengths = torch.tensor([len(waveform) for waveform in waveforms], device=device)
        is_one = len(waveforms) == 1  # which need not be copied
        batch = waveforms[0][None] if is_one else torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
        batch = batch.to(device)
        # The sum is not finite if a sample is not, and is much faster.
        if not batch.sum().isfinite() and not batch.isfinite().all():
            bad = (~batch.isfinite()).any(-1).nonzero()[0, 0].item()
            raise ValueError(f"waveform {bad} holds NaN or infinite samples: repair it or leave it out.")
        return batch, lengths


def _is_decoded(clip: Any) -> bool:
    """Whether a clip is audio that knows its rate: a dictionary of `datasets`, or torchcodec's decoder or samples."""
    return isinstance(clip, dict) or hasattr(clip, "get_all_samples") or hasattr(clip, "sample_rate")


def _samples_and_rate(clip: Any, name: str) -> tuple[Any, int | None]:
    """Returns the samples of a clip, and its sampling rate if it knows that."""
    if not _is_decoded(clip):
        return clip, None
    if isinstance(clip, dict):
        samples = clip.get("array", clip.get("raw"))  # as `datasets` calls them, and as pipelines do
        if samples is None or clip.get("sampling_rate") is None:
            raise ValueError(
                f"{name} is a dict of {', '.join(map(str, clip))}, but decoded audio has `array` and `sampling_rate`. "
                "Let `datasets` decode the column, or decode it by `feature_extraction.load_audio`."
            )
        return samples, clip["sampling_rate"]
    samples = clip.get_all_samples() if hasattr(clip, "get_all_samples") else clip
    return samples.data.mean(0), samples.sample_rate


def _split_batch(raw_speech: Any, channel_axis: int | None) -> Any:
    """Returns the clips of a batch one by one, or the only clip if the input is no batch."""
    if isinstance(raw_speech, Sequence) and not isinstance(raw_speech, (str, bytes)):  # also a column of `datasets`
        is_clip = (np.ndarray, torch.Tensor, list, tuple)
        is_batch = len(raw_speech) > 0 and (isinstance(raw_speech[0], is_clip) or _is_decoded(raw_speech[0]))
    elif _is_decoded(raw_speech):
        is_batch = False
    elif isinstance(raw_speech, (np.ndarray, torch.Tensor)):
        is_batch = raw_speech.ndim == (2 if channel_axis is None else 3)
        if is_batch and channel_axis is None and raw_speech.shape[1] <= MOST_CHANNELS < raw_speech.shape[0]:
            raise ValueError(
                f"An array of shape {tuple(raw_speech.shape)} looks like one waveform of {raw_speech.shape[1]} "
                "channels: pass `channel_axis=1` to average them."
            )
        if is_batch and channel_axis is None and raw_speech.shape[0] == 2:
            logger.warning_once(
                f"An array of shape {tuple(raw_speech.shape)} is taken to be a batch of two waveforms. If it is one "
                "in stereo, pass `channel_axis=0` to average its channels."
            )
    else:
        raise ValueError(
            f"Expected a waveform or a list of waveforms (numpy, torch or list), got {type(raw_speech).__name__}. "
            "To read a file use `feature_extraction.load_audio`."
        )
    return raw_speech if is_batch else [raw_speech]


def _mono(clip: np.ndarray | torch.Tensor | list, channel_axis: int | None, name: str) -> torch.Tensor:
    """Converts one clip of any accepted type to float32 samples between -1 and 1, of shape `(num_samples,)`."""
    if isinstance(clip, (list, tuple)):
        try:
            clip = np.asarray(clip, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} is a list of something other than numbers: {error}. To read files use "
                "`feature_extraction.load_audio`."
            ) from error
    if isinstance(clip, np.ndarray) and clip.dtype.kind in "fiu":
        native = clip.dtype.newbyteorder("=")  # WAV readers may return the byte order of the file
        clip = torch.from_numpy(np.ascontiguousarray(clip, dtype=native))
    dtype = getattr(clip, "dtype", type(clip))
    if dtype == torch.uint8:
        clip = (clip.float() - 128) / 128
    elif dtype in (torch.int8, torch.int16, torch.int32):
        clip = clip.float() / -float(torch.iinfo(dtype).min)
    elif not (isinstance(clip, torch.Tensor) and clip.is_floating_point()):
        raise ValueError(f"{name} is of type {dtype}: give floats between -1 and 1, or int8, int16, int32 or uint8.")
    if channel_axis is not None and clip.ndim == 2:
        if clip.shape[channel_axis] > max(MOST_CHANNELS, clip.shape[(channel_axis + 1) % 2]):
            raise ValueError(
                f"{name} has shape {tuple(clip.shape)}, so that axis {channel_axis} would have "
                f"{clip.shape[channel_axis]} channels: pass the other axis as `channel_axis`."
            )
        clip = clip.float().mean(channel_axis)
    if clip.ndim != 1:
        raise ValueError(
            f"{name} has shape {tuple(clip.shape)}, but a waveform has one dimension. If one of these is for the "
            "channels, pass its number as `channel_axis` to average them."
        )
    if len(clip) == 0:
        raise ValueError(f"{name} is empty: it must have at least one sample.")
    return clip.float()


__all__ = ["COLAFeatureExtractor"]
