"""Checkpoints whose weights are not what their configuration says are refused by every script, by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig

from feature_extraction import COLAFeatureExtractor
from helpers import pretraining_arguments
from model_helpers import assert_same_weights, build
from modeling_cola import COLAForAudioClassification, COLAForPreTraining, COLAModel
from run_scripts import run_embedding, run_pretraining
from run_scripts.benchmark.methods import list_methods
from run_scripts.classification.arguments import ModelArguments
from run_scripts.classification.train import build_model
from run_scripts.common.checkpoints import load_checkpoint, load_encoder, share_weights
from run_scripts.common.errors import UserError


def prefixed(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights = {f"module.{name}": value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_encoder(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"encoder": "test_efficientnet"}))


def other_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"compact_channels": 4}))


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.pooling.dense.0.bias"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def other_model(folder: Path) -> None:
    ASTConfig().save_pretrained(folder)


def gone(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    build().save_pretrained(folder)
    COLAFeatureExtractor().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("cls", [COLAModel, COLAForAudioClassification, COLAForPreTraining])
@pytest.mark.parametrize(
    "spoil, message",
    [
        (prefixed, r"are missing or of another shape \(.*encoder.*\), and \d+ have other names \(module.encoder"),
        (other_encoder, "are not those of the encoder 'test_efficientnet' in its config.json"),
        (other_size, r"are missing or of another shape \(.*encoder.backbone.blocks.0.0.weight"),
        (not_a_number, "infinite or not a number: .*encoder.pooling.dense.0.bias"),
        (cut_short, "checkpoint cannot be loaded: "),
        (other_model, "is a checkpoint of the model 'audio-spectrogram-transformer'"),
        (gone, "There is no checkpoint .*checkpoint: neither a folder"),
    ],
)
def test_other_weights_are_refused(checkpoint: Path, cls: type, spoil: Callable[[Path], None], message: str):
    spoil(checkpoint)
    with pytest.raises(UserError, match=message):
        load_checkpoint(cls, checkpoint)


@pytest.mark.parametrize("cls", [COLAForAudioClassification, COLAForPreTraining])
def test_a_head_that_is_not_there_starts_anew(checkpoint: Path, cls: type, tmp_path: Path):
    model = load_checkpoint(cls, checkpoint)
    assert_same_weights(model.cola, load_encoder(checkpoint)[0])
    model.save_pretrained(tmp_path / "trained")
    assert_same_weights(load_checkpoint(COLAModel, tmp_path / "trained"), model.cola)  # and the head is left out


def test_a_head_may_be_required(checkpoint: Path, tmp_path: Path):
    with pytest.raises(UserError, match="are not those of the encoder 'compact' and the head in its config.json: 2"):
        load_checkpoint(COLAForAudioClassification, checkpoint, with_head=True)
    build(COLAForAudioClassification).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="of another shape .classifier.bias, classifier.weight"):
        load_checkpoint(COLAForAudioClassification, tmp_path, with_head=True, id2label={0: "a", 1: "b"})


def test_weights_in_half_precision_are_loaded_in_float32(checkpoint: Path):
    COLAModel.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(checkpoint)
    assert load_checkpoint(COLAForAudioClassification, checkpoint).dtype == torch.float32


def test_a_classifier_of_other_classes_keeps_its_encoder(tmp_path: Path):
    build(COLAForAudioClassification).save_pretrained(tmp_path)
    model = load_checkpoint(COLAForAudioClassification, tmp_path, id2label={0: "a", 1: "b"})
    assert_same_weights(model.cola, load_checkpoint(COLAModel, tmp_path))
    assert model.classifier.out_features == 2


def test_every_script_refuses_them(checkpoint: Path, tones: Path, tmp_path: Path):
    prefixed(checkpoint)
    name, out = str(checkpoint), tmp_path / "out"
    message = f"The weights of the checkpoint {checkpoint} are not those"
    with pytest.raises(UserError, match=message):
        run_embedding.main(["--dataset_name", str(tones), "--output_dir", str(out), "--model_name_or_path", name])
    with pytest.raises(UserError, match=message):
        build_model(ModelArguments(model_name_or_path=name), ["a", "b"])
    with pytest.raises(UserError, match=message):
        list_methods([name], ["frozen"], 1)
    arguments = ["--dataset_name", str(tones), "--output_dir", str(out), "--model_name_or_path", name]
    with pytest.raises(UserError, match=message):
        run_pretraining.main(arguments)
    distillation = ("--objective", "distillation", "--teacher_name_or_path", name)
    with pytest.raises(UserError, match=message):
        run_pretraining.main(pretraining_arguments(tones, out, *distillation))


def test_weights_get_the_permissions_of_their_neighbours(tmp_path: Path):
    for name, mode in (("config.json", 0o664), ("model.safetensors", 0o600)):
        (tmp_path / name).write_text(json.dumps({}))
        (tmp_path / name).chmod(mode)
    share_weights(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o664
