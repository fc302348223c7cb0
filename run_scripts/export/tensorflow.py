"""The checkpoints that the authors' TensorFlow code writes, as COLA models."""

import math
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modeling_cola import COLAConfig, COLAForPreTraining, COLAModel
from run_scripts.common.errors import UserError, as_user_error


# What a checkpoint calls a variable: the path to its layer, and its name. A network numbers its layers in the order in
# which they run.
VARIABLE = re.compile(r"(.*)/([^/]+)/\.ATTRIBUTES/VARIABLE_VALUE")
LAYER = "embedding_model/layer_with_weights-{}"
ENCODER_LAYER = LAYER.format(0) + "/layer_with_weights-{}"
SIMILARITY = "_similarity_layer"

# Keras' EfficientNet divides its input by this.
INPUT_SCALE = 255
# What Keras' LayerNormalization and PyTorch's add to the variance.
KERAS_EPSILON, TORCH_EPSILON = 1e-3, 1e-5

Layer = dict[str, np.ndarray]


def is_tensorflow_checkpoint(path: Path) -> bool:
    """Whether a path is the prefix of a TensorFlow checkpoint, such as `ckpt_50` beside the file `ckpt_50.index`."""
    return path.with_name(f"{path.name}.index").is_file()


def convert_tensorflow(path: Path) -> COLAForPreTraining | COLAModel:
    """
    Converts a checkpoint of the authors' pre-training: Keras' EfficientNet-B0 with global max pooling and the
    projection head of the paper.

    The convolutions of these weights pad the log-mel spectrogram with 0, and asymmetrically; both is part of the
    configuration of the model that is returned.

    Args:
        path (`Path`):
            The prefix of the checkpoint's files.

    Returns:
        [`COLAForPreTraining`] if the checkpoint is of bilinear similarity. [`COLAModel`], the encoder alone, if it is
        of the cosine, whose head in the authors' code is a dense layer without normalisation.

    Raises:
        `ValueError`: If TensorFlow is not installed, or if the checkpoint is of another network.
    """
    layers = _read_layers(path)
    encoder = [layers[name] for name in map(ENCODER_LAYER.format, range(len(layers))) if name in layers]
    settings = {"encoder": "tf_efficientnet_b0", "pooling": "max", "conv_padding_value": 0.0}
    if SIMILARITY in layers:
        (bilinear,) = layers[SIMILARITY].values()
        model = COLAForPreTraining(COLAConfig(**settings, projection_size=len(bilinear)))
        _fill_head(model, layers[LAYER.format(1)], layers[LAYER.format(2)], bilinear)
    else:
        model = COLAModel(COLAConfig(**settings))
    # The first layer would normalise the input, but the authors leave it as it is: the identity.
    encoder = [layer for layer in encoder if "count" not in layer]
    _fill_backbone(model.base_model.encoder.backbone, encoder, path)
    return model.eval()


def _read_layers(path: Path) -> dict[str, Layer]:
    """The variables of each layer, without the states of the optimiser."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError('To read a TensorFlow checkpoint, install TensorFlow: pip install "cola-audio[tf]"') from error
    with as_user_error(f"{path} is not a TensorFlow checkpoint"):
        reader = tf.train.load_checkpoint(str(path))
    layers = defaultdict(dict)
    for key in reader.get_variable_to_shape_map():
        if (match := VARIABLE.match(key)) and ".OPTIMIZER_SLOT" not in key:
            layers[match[1]][match[2]] = reader.get_tensor(key)
    return layers


@torch.no_grad()
def _fill_backbone(backbone: nn.Module, layers: list[Layer], path: Path) -> None:
    """Copies the layers of Keras' network, which are in the same order as those of timm's."""
    modules = [module for module in backbone.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    if len(layers) != len(modules):
        raise UserError(f"{path} has {len(layers)} layers with weights where EfficientNet-B0 has {len(modules)}.")
    for module, layer in zip(modules, layers):
        if isinstance(module, nn.BatchNorm2d):
            values = {
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            }
            values = {ours: layer[name] for ours, name in values.items()}
        elif "depthwise_kernel" in layer:
            values = {"weight": layer["depthwise_kernel"].transpose(2, 3, 0, 1)}
        else:
            values = {"weight": layer["kernel"].transpose(3, 2, 0, 1)}
            if "bias" in layer:
                values["bias"] = layer["bias"]
        for name, value in values.items():
            getattr(module, name).copy_(torch.from_numpy(value.copy()))
    modules[0].weight /= INPUT_SCALE


@torch.no_grad()
def _fill_head(model: COLAForPreTraining, dense: Layer, norm: Layer, bilinear: np.ndarray) -> None:
    # Layer normalisation does not depend on the scale of its input but for the small number that it adds to the
    # variance: a tenth of the input with 1e-5 is the whole input with Keras' 1e-3.
    scale = math.sqrt(TORCH_EPSILON / KERAS_EPSILON)
    head = model.projection
    head.dense.weight.copy_(scale * torch.from_numpy(dense["kernel"].T))
    head.dense.bias.copy_(scale * torch.from_numpy(dense["bias"]))
    head.layer_norm.weight.copy_(torch.from_numpy(norm["gamma"]))
    head.layer_norm.bias.copy_(torch.from_numpy(norm["beta"]))
    model.similarity.weight.copy_(torch.from_numpy(bilinear))
