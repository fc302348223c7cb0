"""Small COLA models, their inputs and comparisons, for the tests of `modeling_cola`."""

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from modeling_cola import COLAConfig, COLAForAudioClassification, COLAForPreTraining, COLAModel


ROOT = Path(__file__).parents[1]
ENCODERS = ["compact", "test_efficientnet"]
CLASSES = [COLAModel, COLAForPreTraining, COLAForAudioClassification]
SILENCE = math.log(1e-5)

encoders = pytest.mark.parametrize("encoder", ENCODERS)
classes = pytest.mark.parametrize("cls", CLASSES)


def tiny_config(encoder: str = "compact", **kwargs) -> COLAConfig:
    tiny = {"compact_channels": 8, "pooling_hidden_size": 16, "hidden_size": 88, "projection_size": 16}
    return COLAConfig(encoder=encoder, **tiny | {"num_labels": 3} | kwargs)


def lived_in(model: PreTrainedModel) -> PreTrainedModel:
    """Moves every parameter and BatchNorm statistic off its start, where zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += (
                0.1 * parameter.abs().mean().clamp_min(0.1) * torch.randn(parameter.shape, generator=generator)
            )
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    return model.eval()


def build(cls: type = COLAModel, encoder: str = "compact", **kwargs) -> PreTrainedModel:
    return lived_in(cls(tiny_config(encoder, **kwargs)))


def log_mel(batch_size: int, num_frames: int, seed: int = 0) -> torch.Tensor:
    """Frames of noise with the level and spread of log-mel, and a spectrum of its own for each clip."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.randn(batch_size, 1, 64, generator=generator)
    return spectrum - 6 + torch.randn(batch_size, num_frames, 64, generator=generator)


def batch_for(cls: type, batch_size: int = 2, num_frames: int = 200) -> dict[str, torch.Tensor]:
    inputs = {"input_values": log_mel(batch_size, num_frames)}
    if cls is COLAForPreTraining:
        inputs["positive_values"] = log_mel(batch_size, num_frames, seed=1)
    return inputs


def padded(clips: list[torch.Tensor], num_frames: int, fill: float = SILENCE) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.full((len(clips), num_frames, 64), fill)
    mask = torch.zeros(len(clips), num_frames, dtype=torch.long)
    for i, clip in enumerate(clips):
        values[i, : len(clip)] = clip
        mask[i, : len(clip)] = 1
    return values, mask


def loss_of(model: PreTrainedModel, outputs) -> torch.Tensor:
    return outputs.loss if isinstance(model, COLAForPreTraining) else outputs[0].square().mean()


def assert_same_outputs(actual, expected, atol: float = 1e-5) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=1e-5, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_same_weights(actual: nn.Module, expected: nn.Module) -> None:
    actual, expected = actual.state_dict(), expected.state_dict()
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert not different


def run_script(code: str, folder: Path, *arguments: str, **environment: str) -> None:
    """Runs Python in a process of its own, in `folder`, where PYTHONPATH is only what `environment` says."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=folder,
        env=env | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-5000:]
