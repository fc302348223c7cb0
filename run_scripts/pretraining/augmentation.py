"""Augmentations of a batch, on its device."""

import torch
import torchaudio.functional as F


def add_noise(waveforms: torch.Tensor, lengths: torch.Tensor, ratio: float) -> torch.Tensor:
    """
    Adds Gaussian noise whose level is `ratio` times each waveform's own RMS.

    Args:
        waveforms (`torch.Tensor` of shape `(batch_size, num_samples)`):
            Zero from each one's length on, where no noise is added.
        lengths (`torch.Tensor` of shape `(batch_size,)`):
            Valid samples of each.
        ratio (`float`):
            0 leaves the waveforms as they are.
    """
    if ratio == 0:
        return waveforms
    rms = (waveforms.square().sum(-1) / lengths).sqrt()[:, None]
    valid = torch.arange(waveforms.shape[-1], device=waveforms.device) < lengths[:, None]
    return waveforms + ratio * rms * torch.randn_like(waveforms) * valid


def spec_augment(input_values: torch.Tensor, max_bands: int, max_frames: int, value: float) -> torch.Tensor:
    """
    SpecAugment (Park et al. 2019, arXiv 1904.08779, without warping): each clip of `(batch_size, num_frames,
    num_mel_bins)` gets one band mask and one time mask of its own, up to so wide, filled with `value`.
    """
    masked = input_values[:, None]
    if max_bands:
        masked = F.mask_along_axis_iid(masked, max_bands, value, axis=3)
    if max_frames:
        masked = F.mask_along_axis_iid(masked, max_frames, value, axis=2)
    return masked[:, 0]


def mix_background(input_values: torch.Tensor, max_share: float) -> torch.Tensor:
    """
    Adds another clip of the batch in the background (log-mixup-exp, Niizumi et al. 2021, arXiv 2103.06695), so that
    noise which two segments of a recording share does not give them away.

    Args:
        input_values (`torch.Tensor` of shape `(batch_size, num_frames, num_mel_bins)`):
            Log-mel frames.
        max_share (`float`):
            Each clip's share of the other is drawn between 0 and this.
    """
    share = max_share * torch.rand(len(input_values), 1, 1, device=input_values.device)
    other = input_values[torch.randperm(len(input_values), device=input_values.device)]
    return ((1 - share) * input_values.exp() + share * other.exp()).log()


def random_equalizer(input_values: torch.Tensor, std: float, floor: float, num_knots: int = 5) -> torch.Tensor:
    """
    Filters each clip by a smooth random frequency response, as another microphone, room or distance would, so that
    the colour which two segments of a recording share does not give them away.

    Args:
        input_values (`torch.Tensor` of shape `(batch_size, num_frames, num_mel_bins)`):
            Log-mel frames.
        std (`float`):
            Standard deviation of the response, in nepers (0.7 are 6 dB), at knots between which it is linear.
        floor (`float`):
            Values stay above this.
        num_knots (`int`, *optional*, defaults to 5):
            Knots from the lowest to the highest band.
    """
    knots = std * torch.randn(len(input_values), 1, num_knots, device=input_values.device)
    response = torch.nn.functional.interpolate(knots, input_values.shape[-1], mode="linear", align_corners=True)
    return (input_values + response).clamp_min(floor)
