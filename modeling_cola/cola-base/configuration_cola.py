"""COLA model configuration."""

import json
import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


# By itself `save_pretrained` records only the class that is saved. The code of all classes is saved with every
# checkpoint, so all of them are listed here.
AUTO_MAP = {
    "AutoConfig": "configuration_cola.COLAConfig",
    "AutoModel": "modeling_cola.COLAModel",
    "AutoModelForPreTraining": "modeling_cola.COLAForPreTraining",
    "AutoModelForAudioClassification": "modeling_cola.COLAForAudioClassification",
}

# The BatchNorm of the authors' TensorFlow code.
PAPER_BATCH_NORM = {"bn_eps": 1e-3, "bn_momentum": 0.01}
# The settings of the paper's encoder, whose dimension of h is known without building it. Those of other encoders are
# kept below once they are found by building one.
PAPER_ENCODER = json.dumps(["efficientnet_b0", PAPER_BATCH_NORM, None, "max", 1, 64, 96])
_ENCODER_SIZES: dict[str, int] = {}


@strict
class COLAConfig(PreTrainedConfig):
    r"""
    The configuration of a COLA model. The defaults are those of the paper (Saeed, Grangier and Zeghidour 2020,
    *Contrastive Learning of General-Purpose Audio Representations*, arXiv 2010.10915, section 3).

    Args:
        encoder (`str`, *optional*, defaults to `"efficientnet_b0"`):
            The encoder f: the name of any convolutional network of timm, or `"compact"` for the small encoder that is
            part of this model ([`COLACompactEncoder`]).
        encoder_kwargs (`dict`, *optional*):
            Further arguments of `timm.create_model`. Defaults to `{"bn_eps": 1e-3, "bn_momentum": 0.01}` for
            `"efficientnet_b0"`, which is the BatchNorm of the authors' TensorFlow code, and to `{}` otherwise.
        drop_path_rate (`float`, *optional*, defaults to 0.0):
            Rate of stochastic depth in a timm encoder.
        zero_init_residual (`bool`, *optional*, defaults to `False`):
            Whether the residual blocks of a timm encoder of the EfficientNet family start as the identity, by
            initialising the weight of the last BatchNorm of each block to 0 (Goyal et al. 2017, arXiv 1706.02677,
            section 5.1). Deep encoders then learn from the first steps on.
        encoder_stride (`int`, *optional*):
            Largest stride of the stages of a timm encoder that are kept. With 8, for example, the feature map of a
            window of 96 frames and 64 bands has 12 frames and 8 bands. By default the whole network is kept.
        pooling (`str`, *optional*):
            How the last feature map of the encoder is pooled into the embedding h. Defaults to `"dense"` for the
            compact encoder and to `"max"`, as in the paper, for all others.

            - `"max"`, `"mean"` and `"mean_max"` (the sum of both) pool each channel over time and frequency.
            - `"dense"` passes the bands and channels of each time step through two dense layers, and adds up the mean
              and the maximum over time, as BYOL-A does (Niizumi et al. 2021, arXiv 2103.06695).
            - `"statistics"` concatenates the mean, maximum and standard deviation over time of each band of each
              channel.
        pooling_stages (`int`, *optional*, defaults to 1):
            How many of the encoder's last stages `"statistics"` pooling reads. Earlier stages keep what the last one
            gives up. Their bands are averaged to as many as the last stage has.
        hidden_size (`int`, *optional*):
            Dimension of h. For `"dense"` pooling it can be chosen and defaults to 1280. With any other pooling it
            follows from the encoder, for which a network of timm is built on the meta device.
        pooling_hidden_size (`int`, *optional*, defaults to 1024):
            Dimension of the first layer of `"dense"` pooling.
        pooling_dropout (`float`, *optional*, defaults to 0.3):
            Dropout probability between the two layers of `"dense"` pooling.
        pooling_relu (`bool`, *optional*, defaults to `False`):
            Whether a ReLU follows the second layer of `"dense"` pooling, as in the weights of BYOL-A.
        compact_channels (`int` or `list[int]`, *optional*, defaults to 64):
            Number of channels of the three stages of the compact encoder: one number for all, or one for each.
        compact_depth (`int`, *optional*, defaults to 1):
            Number of convolutions in each stage of the compact encoder. All but the first are residual.
        num_mel_bins (`int`, *optional*, defaults to 64):
            Number of mel bands of the input.
        padding_value (`float`, *optional*, defaults to `log(1e-5)`):
            Log-mel value of silence, with which recordings are padded.
        conv_padding_value (`float`, *optional*):
            Log-mel value that the zero padding of the convolutions stands for. Defaults to `padding_value`; in the
            authors' TensorFlow code it is 0.
        window_size (`int`, *optional*, defaults to 96):
            Number of frames of a window (96 frames are 0.96 s), which is the length of a segment in pre-training.
        window_hop (`int`, *optional*, defaults to 96):
            Number of frames from the start of one window to the start of the next. With 1, there is an embedding for
            every 10 ms.
        window_chunk_size (`int`, *optional*):
            Maximum number of windows that are encoded at once in evaluation mode. It bounds the memory that a long
            recording takes. Defaults to 8 (`"compact"`) or 32 on a CPU, whose cache holds no more, and to 256 on other
            devices.
        projection_size (`int`, *optional*, defaults to 512):
            Dimension of z, the output of the projection head g.
        projection_hidden_size (`int`, *optional*):
            Dimension of a hidden layer (dense, BatchNorm, ReLU) of the projection head. It lets h keep information
            that the two segments of a recording do not share. By default there is no hidden layer, as in the paper.
        similarity (`str`, *optional*, defaults to `"bilinear"`):
            Similarity of two projections: `"bilinear"` is z^T W z', and `"cosine"` is their cosine divided by
            `temperature` (paper, section 3 and table 4).
        temperature (`float`, *optional*, defaults to 0.2):
            Temperature of the cosine similarity.
        bilinear_init_std (`float`, *optional*, defaults to 0.05):
            Standard deviation of the initial values of W (Keras' `random_normal`, as in the authors' code).
        bilinear_init_diagonal (`float`, *optional*, defaults to 0.0):
            Value added to the diagonal of the initial W. If it is large compared with `bilinear_init_std`, the
            bilinear similarity starts as a scaled dot product, by which similar segments are similar from the start,
            and training makes progress several times as fast in the beginning.
        decorrelation_weight (`float`, *optional*, defaults to 0.0):
            Weight of [`decorrelation_loss`], which is added to the contrastive loss. It keeps the embeddings of deep
            encoders from collapsing to a few directions, which the contrastive loss alone does not.

    Raises:
        `huggingface_hub.errors.StrictDataclassError`: If a value is of the wrong type or out of range. The message
            names the argument.

    Example:

    ```python
    >>> from modeling_cola import COLAConfig, COLAModel

    >>> model = COLAModel(COLAConfig())  # the paper's encoder, with random weights
    >>> compact = COLAModel(COLAConfig(encoder="compact"))
    ```"""

    model_type = "cola"

    encoder: str = "efficientnet_b0"
    encoder_kwargs: dict[str, Any] | None = None
    drop_path_rate: float | int = 0.0
    zero_init_residual: bool = False
    encoder_stride: int | None = None
    pooling: Literal["max", "mean", "mean_max", "dense", "statistics"] | None = None
    pooling_stages: int = 1
    hidden_size: int | None = None
    pooling_hidden_size: int = 1024
    pooling_dropout: float | int = 0.3
    pooling_relu: bool = False
    compact_channels: int | list[int] = 64
    compact_depth: int = 1
    num_mel_bins: int = 64
    padding_value: float | int = math.log(1e-5)
    conv_padding_value: float | int | None = None
    window_size: int = 96
    window_hop: int = 96
    window_chunk_size: int | None = None
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
            self.encoder_kwargs = dict(PAPER_BATCH_NORM) if self.encoder == "efficientnet_b0" else {}
        if self.conv_padding_value is None:
            self.conv_padding_value = self.padding_value
        kwargs["auto_map"] = AUTO_MAP | (kwargs.get("auto_map") or {})
        super().__post_init__(**kwargs)

    @property
    def stage_channels(self) -> list[int]:
        """The number of channels of each stage of the compact encoder."""
        channels = self.compact_channels
        return [channels] * 3 if isinstance(channels, int) else channels

    def _encoder_size(self) -> int:
        """The dimension of h where it follows from the encoder."""
        if self.encoder == "compact":
            if self.pooling == "statistics":
                return 3 * (self.num_mel_bins // 8) * sum(self.stage_channels[-self.pooling_stages :])
            return self.stage_channels[-1]
        follows_from = ("encoder", "encoder_kwargs", "encoder_stride", "pooling", "pooling_stages")
        key = json.dumps([getattr(self, name) for name in (*follows_from, "num_mel_bins", "window_size")])
        if key == PAPER_ENCODER:
            return 1280
        if key not in _ENCODER_SIZES:
            import torch

            from .modeling_cola import COLAEncoder

            with torch.device("meta"):
                _ENCODER_SIZES[key] = COLAEncoder(self).num_features
        return _ENCODER_SIZES[key]

    def validate_ranges(self) -> None:
        """
        Checks the range of each value; `strict` calls this after construction.

        Raises:
            `ValueError`: If a value is out of range.
        """
        sizes = ("pooling_hidden_size", "projection_size", "num_mel_bins", "window_size", "window_hop")
        for name in (*sizes, "pooling_stages", "compact_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if len(self.stage_channels) != 3 or min(self.stage_channels) < 1:
            raise ValueError(
                f"`compact_channels` must be a number of at least 1 or a list of three, got {self.compact_channels}."
            )
        if self.pooling_stages > 1 and self.pooling != "statistics":
            raise ValueError(
                f"`pooling_stages` must be 1 with `pooling` {self.pooling!r}, got {self.pooling_stages}: only "
                "'statistics' reads several stages."
            )
        for name in ("hidden_size", "encoder_stride", "projection_hidden_size", "window_chunk_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("drop_path_rate", "pooling_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {getattr(self, name)}.")
        for name in ("temperature", "bilinear_init_std"):
            if not 0 < getattr(self, name) < math.inf:  # which NaN is not, either
                raise ValueError(f"`{name}` must be above 0, got {getattr(self, name)}.")
        for name in ("padding_value", "conv_padding_value"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"`{name}` must be finite, got {getattr(self, name)}.")
        if not 0 <= self.decorrelation_weight < math.inf:
            raise ValueError(f"`decorrelation_weight` must be at least 0, got {self.decorrelation_weight}.")
        if self.encoder == "compact" and self.encoder_stride not in (None, 8):
            raise ValueError(f"`encoder_stride` must be 8 or None for the compact encoder, got {self.encoder_stride}.")
        if self.encoder == "compact" and min(self.window_size, self.num_mel_bins) < 8:
            raise ValueError(
                "`window_size` and `num_mel_bins` must be at least 8 for the compact encoder, which halves time and "
                f"frequency three times, got {self.window_size} and {self.num_mel_bins}."
            )

    def validate_hidden_size(self) -> None:
        """Fills in `hidden_size` where it was left out, once all that it follows from is known to be valid."""
        self.validate_ranges()
        if self.hidden_size is None:
            self.hidden_size = 1280 if self.pooling == "dense" else self._encoder_size()


__all__ = ["COLAConfig"]
