"""Weights of BYOL-A (Niizumi et al. 2021, arXiv 2103.06695) as a COLA model with the compact encoder."""

import re
from pathlib import Path

import torch
from torch import nn

from modeling_cola import COLAConfig, COLAModel
from run_scripts.common.errors import UserError, as_user_error


# A name may have a prefix, that of the network in training.
PARAMETER = re.compile(r"(?:^|\.)((?:features|fc)\.\d+\.\w+)$")
# Where in `features` the convolutions and BatchNorms are, and in `fc` the dense layers.
CONVOLUTIONS, DENSE = (0, 4, 8), (0, 3)


def convert_byol_a(path: Path) -> COLAModel:
    """
    Converts weights of the layout `AudioNTT2020`: three blocks of convolution, BatchNorm, ReLU and pooling, then two
    dense layers at each time step, and the sum of mean and maximum over time.

    The model reads BYOL-A's own input, log-mel frames that are normalised to zero mean and unit variance, and not what
    [`COLAFeatureExtractor`] computes. Of a segment of 96 frames its embedding is that of BYOL-A; of a longer recording
    it is the mean over windows, where BYOL-A pools over the whole.

    Args:
        path (`Path`):
            A file that `torch.save` wrote, of a state dict.

    Raises:
        `ValueError`: If the file has other weights.
    """
    with as_user_error(f"{path} is not a file of PyTorch weights"):
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        names = [(match[1], name) for name in state if (match := PARAMETER.search(name))]
        weights = {short: state[name] for short, name in names}
    if len(weights) < len(names):
        raise UserError(
            f"{path} has the weights of several networks, such as {names[0][1]} and "
            f"{next(name for short, name in names[1:] if short == names[0][0])}: save the state dict of one of them."
        )
    try:
        channels = len(weights["features.0.weight"])
        hidden_size, pooling_hidden_size = weights["fc.3.weight"].shape
        config = COLAConfig(
            encoder="compact",
            pooling="dense",
            pooling_relu=True,
            compact_channels=channels,
            num_mel_bins=8 * weights["fc.0.weight"].shape[1] // channels,
            pooling_hidden_size=pooling_hidden_size,
            hidden_size=hidden_size,
            padding_value=0.0,
        )
        model = COLAModel(config).eval()
        _fill(model, weights)
    except KeyError as error:
        raise UserError(f"{path} does not have the layout AudioNTT2020: it has no {error.args[0]!r}.") from error
    return model


@torch.no_grad()
def _fill(model: COLAModel, weights: dict[str, torch.Tensor]) -> None:
    for number, block in zip(CONVOLUTIONS, model.encoder.backbone.blocks):
        convolution, norm = block[0], block[1]
        # BYOL-A's images are bands by frames, ours frames by bands.
        convolution.weight.copy_(weights[f"features.{number}.weight"].transpose(2, 3))
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).copy_(weights[f"features.{number + 1}.{name}"])
        # The convolutions of the compact encoder have no bias, since BatchNorm subtracts a mean.
        norm.running_mean -= weights[f"features.{number}.bias"]
    for number in DENSE:
        layer: nn.Linear = model.encoder.pooling.dense[number]
        layer.weight.copy_(weights[f"fc.{number}.weight"])
        layer.bias.copy_(weights[f"fc.{number}.bias"])
