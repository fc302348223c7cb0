"""The optimiser of pre-training."""

import torch
from timm.optim import create_optimizer_v2

from modeling_cola import COLAPreTrainedModel
from run_scripts.pretraining.recipes import TrainingSettings


# PyTorch's own optimisers, which can update all weights in one kernel.
FUSED = ("adam", "adamw")


def build_optimizer(model: COLAPreTrainedModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Builds the optimiser that the settings name. Norms and biases do not decay."""
    return create_optimizer_v2(
        model,
        opt=settings.optim,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        **({"fused": True} if settings.optim in FUSED else {}),
    )
