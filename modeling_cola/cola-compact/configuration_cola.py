"""COLA model configuration."""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


# `save_pretrained` records only the class being saved; every class is in each checkpoint's code, so each is listed.
AUTO_MAP = {
    "AutoConfig": "configuration_cola.COLAConfig",
    "AutoModel": "modeling_cola.COLAModel",
    "AutoModelForPreTraining": "modeling_cola.COLAForPreTraining",
    "AutoModelForAudioClassification": "modeling_cola.COLAForAudioClassification",
}


@strict
class COLAConfig(PreTrainedConfig):
    r"""
    Configuration of a [`COLAModel`]. The defaults are the paper's model (Saeed, Grangier and Zeghidour 2020,
    *Contrastive Learning of General-Purpose Audio Representations*, section 3).

    Args:
        encoder (`str`, *optional*, defaults to `"efficientnet_b0"`):
            The encoder f: the name of any convolutional network of timm, or `"compact"` for the small one of our own
            ([`COLACompactEncoder`]).
        encoder_kwargs (`dict`, *optional*):
            Further arguments of `timm.create_model`. For `"efficientnet_b0"` the default is
            `{"bn_eps": 1e-3, "bn_momentum": 0.01}`, the authors' (TensorFlow's) BatchNorm; else `{}`.
        drop_path_rate (`float`, *optional*, defaults to 0.0):
            Stochastic depth of a timm encoder.
        zero_init_residual (`bool`, *optional*, defaults to `False`):
            Start with the residual blocks of a timm network of EfficientNet's family as the identity (the last
            BatchNorm's gain of each is 0; Goyal et al. 2017, arXiv 1706.02677, section 5.1). A deep one then learns
            from the first step on.
        encoder_stride (`int`, *optional*):
            A timm encoder ends with its last stage of at most this stride: 8 leaves a feature map of 12 frames and 8
            bands of a window of 96 frames and 64 bands. Defaults to all of the network.
        pooling (`str`, *optional*):
            How the encoder's last feature map becomes h. `"max"` (the paper's), `"mean"` and `"mean_max"` (their sum)
            are over time and frequency, and give as many numbers as the map has channels. `"dense"` takes the bands x
            channels of each time step through two dense layers, then the sum of mean and max over time (as BYOL-A's,
            Niizumi et al. 2021, arXiv 2103.06695). `"statistics"` is the mean, max and standard deviation over time of
            each band of each channel. Defaults to `"dense"` for the compact encoder and to `"max"` for others.
        hidden_size (`int`, *optional*, defaults to 1280):
            Size of h. Free for `"dense"` pooling; the other poolings set it.
        pooling_hidden_size (`int`, *optional*, defaults to 1024):
            Size of the first layer of `"dense"` pooling.
        pooling_dropout (`float`, *optional*, defaults to 0.3):
            Dropout between the two layers of `"dense"` pooling.
        compact_channels (`int`, *optional*, defaults to 64):
            Channels of each of the compact encoder's three convolutions.
        num_mel_bins (`int`, *optional*, defaults to 64):
            Mel bands of the input.
        padding_value (`float`, *optional*, defaults to `log(1e-5)`):
            The log-mel value of silence, which padded frames hold.
        window_size (`int`, *optional*, defaults to 96):
            Frames of one window (0.96 s), the length of a segment in pre-training.
        window_hop (`int`, *optional*, defaults to 96):
            Frames from one window to the next. 1 gives one vector per 10 ms.
        window_chunk_size (`int`, *optional*, defaults to 256):
            Windows encoded at once in evaluation mode, which bounds the memory of a long recording.
        projection_size (`int`, *optional*, defaults to 512):
            Size of z, the output of the projection head g.
        projection_hidden_size (`int`, *optional*):
            Size of a hidden layer (dense, BatchNorm, ReLU) of the projection head, which leaves h freer to keep what
            two segments do not share. Defaults to none, as in the paper.
        similarity (`str`, *optional*, defaults to `"bilinear"`):
            `"bilinear"`, z^T W z', or `"cosine"`, the cosine divided by `temperature` (paper, section 3 and table 4).
        temperature (`float`, *optional*, defaults to 0.2):
            Temperature of the cosine similarity.
        bilinear_init_std (`float`, *optional*, defaults to 0.05):
            Standard deviation of W at the start (Keras' `random_normal`, as in the authors' code).
        bilinear_init_diagonal (`float`, *optional*, defaults to 0.0):
            Added to W's diagonal at the start. With little else in W the bilinear similarity begins as a dot product,
            which knows at once that like is like: training then starts several times as fast.
        decorrelation_weight (`float`, *optional*, defaults to 0.0):
            Weight of [`decorrelation_loss`] beside the contrastive loss, which alone lets the h of a deep encoder
            collapse to a few directions.

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: if a value is of the wrong type or out of its range; the message
        names the argument.

    Example:

    ```python
    >>> from modeling_cola import COLAConfig, COLAModel

    >>> model = COLAModel(COLAConfig())  # the paper's encoder, random weights
    >>> compact = COLAModel(COLAConfig(encoder="compact"))
    ```"""

    model_type = "cola"

    encoder: str = "efficientnet_b0"
    encoder_kwargs: dict[str, Any] | None = None
    drop_path_rate: float | int = 0.0
    zero_init_residual: bool = False
    encoder_stride: int | None = None
    pooling: Literal["max", "mean", "mean_max", "dense", "statistics"] | None = None
    hidden_size: int = 1280
    pooling_hidden_size: int = 1024
    pooling_dropout: float | int = 0.3
    compact_channels: int = 64
    num_mel_bins: int = 64
    padding_value: float | int = math.log(1e-5)
    window_size: int = 96
    window_hop: int = 96
    window_chunk_size: int = 256
    projection_size: int = 512
    projection_hidden_size: int | None = None
    similarity: Literal["bilinear", "cosine"] = "bilinear"
    temperature: float | int = 0.2
    bilinear_init_std: float | int = 0.05
    bilinear_init_diagonal: float | int = 0.0
    decorrelation_weight: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.pooling is None:
            self.pooling = "dense" if self.encoder == "compact" else "max"
        if self.encoder_kwargs is None:
            efficientnet = self.encoder == "efficientnet_b0"
            self.encoder_kwargs = {"bn_eps": 1e-3, "bn_momentum": 0.01} if efficientnet else {}
        kwargs["auto_map"] = AUTO_MAP | (kwargs.get("auto_map") or {})
        super().__post_init__(**kwargs)

    def validate_ranges(self) -> None:
        """Called by `strict` after construction."""
        sizes = ("hidden_size", "pooling_hidden_size", "compact_channels", "num_mel_bins", "projection_size")
        for name in (*sizes, "window_size", "window_hop", "window_chunk_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("encoder_stride", "projection_hidden_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("drop_path_rate", "pooling_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {getattr(self, name)}.")
        for name in ("temperature", "bilinear_init_std"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be above 0, got {getattr(self, name)}.")
        if self.decorrelation_weight < 0:
            raise ValueError(f"`decorrelation_weight` must be at least 0, got {self.decorrelation_weight}.")
        if self.encoder == "compact" and self.encoder_stride not in (None, 8):
            raise ValueError(f"`encoder_stride` of the compact encoder is 8, got {self.encoder_stride}.")
        if self.encoder == "compact" and min(self.window_size, self.num_mel_bins) < 8:
            raise ValueError(
                "The compact encoder halves time and frequency three times: `window_size` and `num_mel_bins` must be "
                f"at least 8, got {self.window_size} and {self.num_mel_bins}."
            )


__all__ = ["COLAConfig"]
