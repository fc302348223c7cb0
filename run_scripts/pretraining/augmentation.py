"""From a batch of segment pairs to features, on the device of the model: only the positives are augmented."""

from typing import Any

import torch
import torchaudio.functional as F

from feature_extraction import COLAFeatureExtractor
from run_scripts.pretraining.recipes import TrainingSettings


def make_features(
    batch: dict[str, Any], extractor: COLAFeatureExtractor, settings: TrainingSettings, device: torch.device
) -> dict[str, torch.Tensor]:
    """
    Computes the log-mel features of a batch from `collate_segment_pairs` and augments the positives.

    Returns what an objective's `forward` may take: `input_values` (the anchors) and `positive_values`, each of shape
    `(batch_size, num_frames, num_mel_bins)`, and `gaps` of shape `(batch_size,)`.
    """
    waveforms = batch["waveforms"].to(device, non_blocking=True)
    lengths = batch["lengths"].to(device, non_blocking=True)
    half = len(waveforms) // 2
    noisy = add_noise(waveforms[half:], lengths[half:], settings.noise_ratio)
    anchors, positives = extractor.log_mel(torch.cat([waveforms[:half], noisy]), lengths)[0].chunk(2)
    if settings.mix_share:
        positives = mix_background(positives, settings.mix_share)
    if settings.equalizer_std:
        positives = random_equalizer(positives, settings.equalizer_std, extractor.padding_value)
    positives = spec_augment(positives, settings.mask_bands, settings.mask_frames, extractor.padding_value)
    return {"input_values": anchors, "positive_values": positives, "gaps": batch["gaps"].to(device, non_blocking=True)}


def add_noise(waveforms: torch.Tensor, lengths: torch.Tensor, ratio: float) -> torch.Tensor:
    """
    Adds Gaussian noise whose level is `ratio` times the RMS of each waveform, `(batch_size, num_samples)`. Waveforms
    are padded with zeros beyond their own lengths, `(batch_size,)`, where they get no noise.
    """
    if ratio == 0:
        return waveforms
    rms = (waveforms.square().sum(-1) / lengths).sqrt()[:, None]
    valid = torch.arange(waveforms.shape[-1], device=waveforms.device) < lengths[:, None]
    return waveforms + ratio * rms * torch.randn_like(waveforms) * valid


def spec_augment(input_values: torch.Tensor, max_bands: int, max_frames: int, value: float) -> torch.Tensor:
    """
    Masks a range of at most `max_bands` mel bands and a range of at most `max_frames` frames of each clip's log-mel
    frames `(batch_size, num_frames, num_mel_bins)` with a value (SpecAugment without time warping, Park et al. 2019,
    arXiv 1904.08779).
    """
    masked = input_values[:, None]
    if max_bands:
        masked = F.mask_along_axis_iid(masked, max_bands, value, axis=3)
    if max_frames:
        masked = F.mask_along_axis_iid(masked, max_frames, value, axis=2)
    return masked[:, 0]


def mix_background(input_values: torch.Tensor, max_share: float) -> torch.Tensor:
    """
    Mixes another clip of the batch of log-mel frames `(batch_size, num_frames, num_mel_bins)` into each clip
    (log-mixup-exp, Niizumi et al. 2021, arXiv 2103.06695), so that background noise does not reveal which segments are
    from one recording. The share of the other clip is drawn uniformly between 0 and `max_share`.
    """
    share = max_share * torch.rand(len(input_values), 1, 1, device=input_values.device)
    other = input_values[torch.randperm(len(input_values), device=input_values.device)]
    return ((1 - share) * input_values.exp() + share * other.exp()).log()


def random_equalizer(input_values: torch.Tensor, std: float, floor: float, num_knots: int = 5) -> torch.Tensor:
    """
    Filters each clip by a smooth random frequency response, as another microphone, room or distance would, so that the
    colour of the sound does not reveal which segments are from one recording.

    Args:
        input_values (`torch.Tensor` of shape `(batch_size, num_frames, num_mel_bins)`):
            Log-mel frames. The result is clipped below `floor`.
        std (`float`):
            Standard deviation of the response in nepers (0.7 is 6 dB), at knots between which it is linear.
    """
    knots = std * torch.randn(len(input_values), 1, num_knots, device=input_values.device)
    response = torch.nn.functional.interpolate(knots, input_values.shape[-1], mode="linear", align_corners=True)
    return (input_values + response).clamp_min(floor)
