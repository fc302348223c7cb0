"""Recipes, and the arguments that take the place of their values."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch

from helpers import pretraining_arguments
from modeling_cola import COLAConfig, COLAForPreTraining
from run_scripts import run_pretraining
from run_scripts.pretraining.arguments import PretrainingArguments
from run_scripts.pretraining.recipes import RECIPES, ModelSettings, TrainingSettings, explicit, override
from run_scripts.pretraining.train import build_config, build_model


# For each setting a value that no recipe has.
MODEL_VALUES = {
    "encoder": "mobilenetv3_small_050",
    "encoder_stride": 16,
    "drop_path_rate": 0.1,
    "zero_init_residual": True,
    "pooling": "statistics",
    "pooling_stages": 2,
    "compact_channels": [4, 8, 16],  # no effect on this encoder
    "compact_depth": 2,
    "segment_frames": 64,
    "projection_hidden_size": 32,
    "similarity": "bilinear",
    "temperature": 0.3,
    "bilinear_init_std": 0.02,
    "bilinear_init_diagonal": 0.04,
    "decorrelation_weight": 0.01,
}
TRAINING_VALUES = {
    "optim": "nadam",
    "learning_rate": 2e-4,
    "weight_decay": 0.1,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.5,
    "max_distance": 0.25,
    "noise_ratio": 0.2,
    "mix_share": 0.1,
    "equalizer_std": 0.3,
    "mask_bands": 4,
    "mask_frames": 6,
    "synthetic_share": 0.5,
    "synthetic_distance": 0.1,
}


def test_every_recipe_is_complete():
    for recipe in RECIPES.values():
        assert set(explicit(recipe.training)) == {field.name for field in fields(TrainingSettings)}
        build_config(recipe.model)


def test_every_setting_is_an_argument(tones: Path, tmp_path: Path):
    assert set(MODEL_VALUES) == {field.name for field in fields(ModelSettings)}
    assert set(TRAINING_VALUES) == {field.name for field in fields(TrainingSettings)}
    values = MODEL_VALUES | TRAINING_VALUES
    channels = ["--compact_channels", *map(str, values["compact_channels"])]
    more = [f"--{name}={value}" for name, value in values.items() if name != "compact_channels"] + channels
    run_pretraining.main(pretraining_arguments(tones, tmp_path, "--max_steps", "2", *more))
    state = json.loads((tmp_path / "training_state.json").read_text())
    assert {name: state["arguments"][name] for name in values} == values
    assert [entry["learning_rate"] for entry in state["history"]] == [2e-4, 0.0]  # one step of warm-up, then linear
    model = COLAForPreTraining.from_pretrained(tmp_path)
    assert model.config.window_size == model.config.window_hop == 64
    assert all(getattr(model.config, name) == MODEL_VALUES[name] for name in MODEL_VALUES if name != "segment_frames")
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["min_frames"] == 64


def test_one_number_of_channels_is_that_of_all_stages():
    assert build_config(ModelSettings(encoder="compact", compact_channels=[8])).stage_channels == [8, 8, 8]


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_not_given_is_the_recipes(recipe: str):
    args, wanted = PretrainingArguments("out", recipe=recipe), explicit(RECIPES[recipe].model)
    config = build_model(args)[0].config
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert config.encoder == wanted.get("encoder", COLAConfig().encoder)
    own = ModelSettings(encoder="test_efficientnet", pooling="mean", similarity="bilinear", encoder_stride=16)
    config = build_model(args, own)[0].config
    assert {name: getattr(config, name) for name in explicit(own)} == explicit(own)
    assert config.projection_hidden_size == wanted.get("projection_hidden_size")

    training = override(RECIPES[recipe].training, TrainingSettings(learning_rate=0.5, noise_ratio=0.0))
    expected = asdict(RECIPES[recipe].training) | {"learning_rate": 0.5, "noise_ratio": 0.0}
    assert asdict(training) == expected


def test_the_papers_segments_are_anywhere():
    assert RECIPES["paper"].training.max_distance_samples(16000) is None
    assert RECIPES["best"].training.max_distance_samples(16000) == 8000


def test_starts_from_a_checkpoint(pretrained: Path):
    expected = COLAForPreTraining.from_pretrained(pretrained).state_dict()
    model, _ = build_model(PretrainingArguments("out", model_name_or_path=str(pretrained)))
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_the_loss_may_be_set_for_a_checkpoint(pretrained: Path):
    args = PretrainingArguments("out", model_name_or_path=str(pretrained))
    model, _ = build_model(args, ModelSettings(temperature=0.5, decorrelation_weight=0.02))
    assert model.config.decorrelation_weight == 0.02 and model.config.temperature == 0.5
    assert model.config.window_hop == model.config.window_size
    expected = COLAForPreTraining.from_pretrained(pretrained).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
