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
