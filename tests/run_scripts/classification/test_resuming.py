"""Where a run of run_classification.py starts."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from run_scripts.classification.arguments import DataArguments, ModelArguments
from run_scripts.classification.resuming import SETTINGS, choose_checkpoint, find_damage, settle
from run_scripts.classification.trainer import ClassificationArguments


SIZES = {"num_classes": 2, "num_train": 9}


def write_checkpoint(output_dir: Path, name: str) -> Path:
    folder = output_dir / name
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    torch.save({"step": torch.arange(1000)}, folder / "optimizer.pt")
    save_file({"weight": torch.arange(1000)}, folder / "model.safetensors")
    return folder


def resume(output_dir: Path, checkpoint: str | Path | None = "latest", **more: bool) -> Path | None:
    checkpoint = None if checkpoint is None else str(checkpoint)
    return choose_checkpoint(ClassificationArguments(str(output_dir), resume_from_checkpoint=checkpoint, **more))


def test_the_newest_checkpoint_is_a_whole_one(tmp_path: Path):
    assert resume(tmp_path) is None
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-mine"):
        write_checkpoint(tmp_path, name)
    (tmp_path / "checkpoint-11").mkdir()  # The run was killed while it was written.
    assert resume(tmp_path) == tmp_path / "checkpoint-10"
    assert resume(tmp_path, tmp_path / "checkpoint-9") == tmp_path / "checkpoint-9"
    with pytest.raises(FileNotFoundError, match="checkpoint-11: there is no checkpoint"):
        resume(tmp_path, tmp_path / "checkpoint-11")


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json"])
def test_goes_back_past_a_damaged_checkpoint(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture):
    first, second = (write_checkpoint(tmp_path, f"checkpoint-{step}") for step in (1, 2))
    assert find_damage(second) is None
    (second / name).write_bytes((second / name).read_bytes()[:-1])
    assert resume(tmp_path) == first
    assert f"checkpoint-2 is damaged ({name}" in caplog.text and "falling back" in caplog.text
    with pytest.raises(ValueError, match=f"checkpoint-2 is damaged .{name}.*: resume from another one"):
        resume(tmp_path, second)
    (first / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="No checkpoint in .* is whole"):
        resume(tmp_path)


def test_a_flipped_bit_is_damage(tmp_path: Path):
    path = write_checkpoint(tmp_path, "checkpoint-1") / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert find_damage(path.parent) == "optimizer.pt is not what was written"


@pytest.mark.parametrize("what", ["an earlier run", "a model"])
def test_a_folder_in_use_is_refused(tmp_path: Path, what: str):
    if what == "a model":
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(ValueError, match="holds a model"):  # nothing to go on from
            resume(tmp_path)
    else:
        checkpoint = write_checkpoint(tmp_path, "checkpoint-1")
    with pytest.raises(ValueError, match=f"--output_dir .* holds {what}: pass --resume_from_checkpoint .*--overwrite"):
        resume(tmp_path, None)
    assert resume(tmp_path, None, overwrite_output_dir=True) is None
    assert what == "a model" or not checkpoint.exists()  # or a later resume would find it
    with pytest.raises(ValueError, match="exclude each other"):
        resume(tmp_path, overwrite_output_dir=True)


def test_other_settings_are_refused_and_more_epochs_are_not(tmp_path: Path):
    model_args, data_args = ModelArguments(mode="supervised"), DataArguments(dataset_name="clips")
    args = ClassificationArguments(str(tmp_path))
    settle(None, model_args, data_args, args, SIZES)
    assert json.loads((tmp_path / SETTINGS).read_text())["learning_rate"] == 1e-3
    checkpoint = write_checkpoint(tmp_path, "checkpoint-1")
    more = dataclasses.replace(args, num_train_epochs=200, output_dir=str(tmp_path / "other"))
    settle(checkpoint, model_args, data_args, more, SIZES)
    other = dataclasses.replace(args, learning_rate=0.1, class_weights="balanced")
    message = "other settings: learning_rate was 0.001 and is now 0.1; class_weights was none and is now balanced"
    with pytest.raises(ValueError, match=message):
        settle(checkpoint, model_args, data_args, other, SIZES)
    with pytest.raises(ValueError, match="dataset_name was clips and is now dogs; num_train was 9 and is now 10"):
        settle(checkpoint, model_args, DataArguments(dataset_name="dogs"), args, SIZES | {"num_train": 10})


def test_a_frozen_encoder_that_has_changed_is_refused(tmp_path: Path):
    """The checkpoints have the classifier alone, which fits no other encoder."""
    model_args, data_args = ModelArguments(mode="supervised"), DataArguments(dataset_name="clips")
    args = ClassificationArguments(str(tmp_path))
    settle(None, model_args, data_args, args, SIZES, "abc")
    checkpoint = write_checkpoint(tmp_path, "checkpoint-1")
    settle(checkpoint, model_args, data_args, args, SIZES, "abc")
    with pytest.raises(ValueError, match="frozen_encoder was abc and is now def"):
        settle(checkpoint, model_args, data_args, args, SIZES, "def")
