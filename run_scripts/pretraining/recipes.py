"""
How an encoder is pre-trained.

A recipe is a set of values for the settings below. Each setting is also an argument of `run_pretraining.py`: what is
not given there is the recipe's value.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from run_scripts.common.errors import UserError


SettingsType = TypeVar("SettingsType", "ModelSettings", "TrainingSettings")


@dataclass
class ModelSettings:
    """The architecture and its loss. What neither the recipe nor the user sets has the default of `COLAConfig`."""

    encoder: str | None = field(
        default=None,
        metadata={"help": "A convolutional network of timm, or 'compact' for the small encoder of this project."},
    )
    encoder_stride: int | None = field(
        default=None, metadata={"help": "Cut a timm encoder after its last stage of at most this stride."}
    )
    drop_path_rate: float | None = field(default=None, metadata={"help": "Stochastic depth of a timm encoder."})
    zero_init_residual: bool | None = field(
        default=None,
        metadata={
            "help": "Start with the residual blocks of a timm encoder as the identity.",
            "nargs": "?",
            "const": True,
        },
    )
    pooling: str | None = field(
        default=None, metadata={"help": "max (the paper's), mean, mean_max, dense or statistics; see COLAConfig."}
    )
    pooling_stages: int | None = field(
        default=None, metadata={"help": "How many of the last stages statistics pooling reads."}
    )
    compact_channels: list[int] | None = field(
        default=None, metadata={"help": "Channels of the three stages of the compact encoder: one number, or three."}
    )
    compact_depth: int | None = field(
        default=None, metadata={"help": "Convolutions in each stage of the compact encoder."}
    )
    segment_frames: int | None = field(
        default=None,
        metadata={"help": "Frames of 10 ms in a segment, which is also the window of the encoder. The paper has 96."},
    )
    projection_hidden_size: int | None = field(
        default=None, metadata={"help": "Size of a hidden layer in the projection head. The paper has none."}
    )
    similarity: str | None = field(default=None, metadata={"help": "bilinear (the paper's) or cosine."})
    temperature: float | None = field(
        default=None, metadata={"help": "Temperature of the cosine similarity. The paper has 0.2."}
    )
    bilinear_init_std: float | None = field(
        default=None, metadata={"help": "Standard deviation of the initial weights of the bilinear similarity."}
    )
    bilinear_init_diagonal: float | None = field(
        default=None, metadata={"help": "Value added to the diagonal of these weights at initialisation."}
    )
    decorrelation_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the penalty on correlated dimensions of h. 0.02 suits EfficientNet-B0."},
    )


# Settings that only the contrastive objective has.
CONTRASTIVE_SETTINGS = (
    "similarity",
    "temperature",
    "bilinear_init_std",
    "bilinear_init_diagonal",
    "decorrelation_weight",
)
# Those of them that no weights depend on, so that a run may set them for a checkpoint.
LOSS_SETTINGS = ("temperature", "decorrelation_weight")


# Settings that are shares of a whole.
SHARES = ("warmup_ratio", "mix_share", "synthetic_share", "synthetic_distance")
# The schedules of Transformers that need no arguments of their own.
SCHEDULES = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
)


@dataclass
class TrainingSettings:
    """Optimisation, and how the positive is drawn and augmented."""

    optim: str | None = field(default=None, metadata={"help": "An optimiser that timm knows: adam, adamw, lamb ..."})
    learning_rate: float | None = field(default=None, metadata={"help": "The highest learning rate."})
    weight_decay: float | None = field(
        default=None, metadata={"help": "Weight decay, which norms and biases are exempt from."}
    )
    lr_scheduler_type: str | None = field(
        default=None, metadata={"help": f"The learning-rate schedule: {', '.join(SCHEDULES)}."}
    )
    warmup_ratio: float | None = field(
        default=None, metadata={"help": "Share of the steps in which the learning rate rises from 0."}
    )
    max_distance: float | None = field(
        default=None,
        metadata={"help": "Greatest distance in seconds from anchor to positive; inf (the paper's) is anywhere."},
    )
    noise_ratio: float | None = field(
        default=None, metadata={"help": "Level of Gaussian noise added to the positive, relative to its RMS."}
    )
    mix_share: float | None = field(
        default=None, metadata={"help": "Greatest share of another clip mixed into the positive."}
    )
    equalizer_std: float | None = field(
        default=None,
        metadata={"help": "Standard deviation of a random frequency response of the positive, in nepers."},
    )
    mask_bands: int | None = field(
        default=None, metadata={"help": "SpecAugment on the positive: greatest number of masked mel bands."}
    )
    mask_frames: int | None = field(
        default=None, metadata={"help": "SpecAugment on the positive: greatest number of masked frames."}
    )
    synthetic_share: float | None = field(
        default=None,
        metadata={"help": "Share of synthetic pairs in each batch. Without --dataset_name, all pairs are synthetic."},
    )
    synthetic_distance: float | None = field(
        default=None,
        metadata={"help": "How far apart the parameters of a synthetic pair are: from 0 (the same) to 1 (unrelated)."},
    )

    def __post_init__(self) -> None:
        if self.lr_scheduler_type not in (None, *SCHEDULES):
            raise UserError(
                f"--lr_scheduler_type must be one of {', '.join(SCHEDULES)}, got {self.lr_scheduler_type!r}."
            )
        for name, value in explicit(self).items():
            if not isinstance(value, (int, float)):
                continue
            if not value >= 0:  # which NaN is not, either
                raise UserError(f"--{name} must be at least 0, got {value}.")
            if name in SHARES and value > 1:
                raise UserError(f"--{name} must be at most 1, got {value}.")
            if math.isinf(value) and name != "max_distance":
                raise UserError(f"--{name} must be finite, got {value}.")

    def max_distance_samples(self, sampling_rate: int) -> int | None:
        """The greatest distance in samples, or `None` where there is no limit."""
        return None if math.isinf(self.max_distance) else round(self.max_distance * sampling_rate)


def explicit(settings: ModelSettings | TrainingSettings) -> dict[str, Any]:
    """The settings that were given a value explicitly."""
    return {name: value for name, value in asdict(settings).items() if value is not None}


def override(defaults: SettingsType, settings: SettingsType) -> SettingsType:
    """`defaults`, with the values of `settings` where these have one."""
    return replace(defaults, **explicit(settings))


@dataclass(frozen=True)
class Recipe:
    model: ModelSettings
    training: TrainingSettings


PAPER = Recipe(
    ModelSettings(),
    TrainingSettings(
        optim="adam",
        learning_rate=1e-4,
        weight_decay=0.0,
        lr_scheduler_type="constant",
        warmup_ratio=0.0,
        max_distance=math.inf,
        # The authors' code adds noise of 0.001 to a segment whose L2 norm is 1, which is an RMS of 0.008.
        noise_ratio=0.125,
        mix_share=0.0,
        equalizer_std=0.0,
        mask_bands=0,
        mask_frames=0,
        synthetic_share=0.0,
        synthetic_distance=0.25,
    ),
)

# What later work found better and a small machine needs: larger steps, and a positive that does not give itself away
# by the room and the microphone which it shares with the anchor.
MODERN = Recipe(
    ModelSettings(),
    TrainingSettings(
        optim="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        lr_scheduler_type="cosine",
        warmup_ratio=0.05,
        max_distance=math.inf,
        noise_ratio=0.0,
        mix_share=0.4,
        equalizer_std=0.7,
        mask_bands=16,
        mask_frames=24,
        synthetic_share=0.0,
        synthetic_distance=0.25,
    ),
)

# What transfers best, since it keeps most of what changes within a recording: segments that are near enough to share
# what is said or played, and h read before the layers that discard the rest, with the bands still apart.
BEST = Recipe(
    ModelSettings(
        encoder="compact",
        pooling="statistics",
        projection_hidden_size=1024,
        similarity="cosine",
        temperature=0.1,
        # Without effect here: they keep another encoder or the bilinear similarity from starting slowly.
        zero_init_residual=True,
        bilinear_init_std=1e-4,
        bilinear_init_diagonal=0.05,
    ),
    replace(MODERN.training, max_distance=0.5, equalizer_std=0.5),
)

RECIPES = {"paper": PAPER, "modern": MODERN, "best": BEST}
