"""Checkpoints: loading them, refusing those whose weights are not what their configuration says, and their size."""

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from transformers import PretrainedConfig, set_seed

from feature_extraction import COLAFeatureExtractor
from feature_extraction.loading import look_up_on_hub
from modeling_cola import COLAConfig, COLAModel, COLAPreTrainedModel
from run_scripts.common.errors import UserError, as_user_error
from run_scripts.common.hub import hub_name


Model = TypeVar("Model", bound=COLAPreTrainedModel)

# How many names of weights a message lists.
NAMES_SHOWN = 3


def load_config(checkpoint: str | os.PathLike, **kwargs: Any) -> COLAConfig:
    """
    Loads the configuration of a checkpoint, a folder or the name of a model on the Hub. `kwargs` take the place of its
    values.

    Raises:
        [`UserError`]: If there is no such checkpoint, or if it is of another kind of model.
    """
    try:
        if not Path(checkpoint).exists() and hub_name(str(checkpoint)) is not None:
            look_up_on_hub(str(checkpoint), "model")
        values, _ = PretrainedConfig.get_config_dict(checkpoint)
    except OSError:
        values = {}
    if not values:
        raise UserError(
            f"There is no checkpoint {checkpoint}: neither a folder with a config.json nor a model that could be "
            "loaded from the Hub."
        )
    if values.get("model_type") != COLAConfig.model_type:
        raise UserError(
            f"{checkpoint} is a checkpoint of the model {values.get('model_type')!r}, and not one of this project."
        )
    with as_user_error(f"The config.json of the checkpoint {checkpoint} cannot be used"):
        return COLAConfig.from_pretrained(checkpoint, **kwargs)


def load_checkpoint(cls: type[Model], checkpoint: str | os.PathLike, with_head: bool = False, **kwargs: Any) -> Model:
    """
    Loads a model in float32, whose encoder must be all in the checkpoint. A head that is not in it, or that has
    another size, starts with random weights, unless the checkpoint must have that, too.

    Args:
        cls (`type`):
            The class of the model.
        checkpoint (`str` or `os.PathLike`):
            A folder, or the name of a model on the Hub.
        with_head (`bool`, *optional*, defaults to `False`):
            Whether the head must be in the checkpoint as well.
        **kwargs:
            Values of the configuration that take the place of the checkpoint's.

    Raises:
        [`UserError`]: If there is no such checkpoint, if it is of another kind of model, if weights that it must have
            are missing or of another shape, or if any are not finite. The message names them.
    """
    config = load_config(checkpoint, **kwargs)
    try:
        model, loaded = cls.from_pretrained(
            checkpoint,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"The weights of the checkpoint {checkpoint} cannot be loaded: {reason}") from error
    is_encoder = with_head or cls.base_model_prefix not in model._modules
    prefix = "" if is_encoder else f"{cls.base_model_prefix}."
    names = [*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])]
    if lacking := sorted(name for name in names if name.startswith(prefix)):
        parts = f"the encoder {config.encoder!r}{' and the head' * with_head}"
        message = (
            f"The weights of the checkpoint {checkpoint} are not those of {parts} in its config.json: {len(lacking)} "
            f"are missing or of another shape ({_list(lacking)})"
        )
        if unknown := sorted(loaded["unexpected_keys"]):
            message += f", and {len(unknown)} have other names ({_list(unknown)})"
        raise UserError(f"{message}.")
    if infinite := [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]:
        raise UserError(
            f"The checkpoint {checkpoint} has weights that are infinite or not a number: {_list(infinite)}."
        )
    return model


def _list(names: list[str]) -> str:
    return ", ".join([*names[:NAMES_SHOWN], *["..."] * (len(names) > NAMES_SHOWN)])


def load_extractor(checkpoint: str | os.PathLike) -> COLAFeatureExtractor:
    """Loads the feature extractor of a checkpoint; a checkpoint that has none is a [`UserError`]."""
    try:
        return COLAFeatureExtractor.from_pretrained(checkpoint)
    except OSError as error:
        raise UserError(f"The checkpoint {checkpoint} has no preprocessor_config.json.") from error


def load_encoder(checkpoint: str | os.PathLike, seed: int | None = None) -> tuple[COLAModel, COLAFeatureExtractor]:
    """
    Loads a checkpoint's encoder and feature extractor. With a `seed`, the encoder has the checkpoint's architecture
    but random weights, drawn with this seed. Errors are those of [`load_checkpoint`].
    """
    if seed is None:
        return load_checkpoint(COLAModel, checkpoint), load_extractor(checkpoint)
    config = load_config(checkpoint)
    set_seed(seed)
    return COLAModel(config), load_extractor(checkpoint)


def checkpoint_size(model: torch.nn.Module) -> int:
    """About how many bytes a checkpoint takes: the weights of a model, and Adam's two moments of each."""
    return 3 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def share_weights(folder: str | Path) -> None:
    """
    Gives the weights in the folder of a model the permissions of its `config.json`.

    Files of weights are written under a temporary name, which makes them readable by their owner alone.
    """
    config = Path(folder) / "config.json"
    if config.is_file():
        for weights in Path(folder).glob("*.safetensors"):
            weights.chmod(config.stat().st_mode & 0o777)
