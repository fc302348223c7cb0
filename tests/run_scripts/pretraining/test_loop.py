"""The training loop."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator

from helpers import pretraining_arguments
from modeling_cola import COLAConfig, COLAForPreTraining
from run_scripts import run_pretraining
from run_scripts.pretraining.arguments import PretrainingArguments
from run_scripts.pretraining.checkpointing import RunState
from run_scripts.pretraining.loop import PretrainingTrainer
from run_scripts.pretraining.recipes import RECIPES
from run_scripts.pretraining.validation import HeldOutPairs


def history(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "training_state.json").read_text())["history"]


def test_norms_and_biases_do_not_decay(tmp_path: Path):
    model = COLAForPreTraining(COLAConfig(encoder="compact"))
    built = PretrainingTrainer(
        accelerator=Accelerator(),
        model=model,
        extractor=None,
        settings=RECIPES["modern"].training,
        args=PretrainingArguments(str(tmp_path)),
        loader=None,
        held_out=HeldOutPairs({"gaps": torch.empty(0)}),
        probe=None,
        state=RunState(),
        fixed_arguments={},
        max_bad_fraction=0.2,
    )
    others, decayed = sorted(built.optimizer.param_groups, key=lambda group: group["weight_decay"])
    assert decayed["weight_decay"] == 0.05 and others["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_the_best_validation_gives_the_weights(tones: Path, tmp_path: Path):
    more = ["--max_steps", "6", "--save_steps", "1", "--eval_steps", "1", "--save_total_limit", "9"]
    more += ["--load_best_model_at_end", "--learning_rate", "0.03", "--validation_clips", "8"]
    run_pretraining.main(pretraining_arguments(tones, tmp_path / "whole", *more))
    losses = {entry["step"]: entry["validation_loss"] for entry in history(tmp_path / "whole")}
    best = min(losses, key=losses.get)
    assert best < 6, "the last step is the best: the test shows nothing"
    saved = COLAForPreTraining.from_pretrained(tmp_path / "whole").state_dict()
    checkpoint = safetensors.torch.load_file(tmp_path / "whole" / f"checkpoint-{best}" / "model.safetensors")
    assert saved.keys() == checkpoint.keys()
    assert all(torch.equal(value, checkpoint[name]) for name, value in saved.items())
    assert f"step {best}, whose validation was the best" in (tmp_path / "whole" / "README.md").read_text()

    # A run that was killed after its best step, and after which better ones were written, ends with the same weights.
    shutil.copytree(tmp_path / "whole" / "checkpoint-1", tmp_path / "resumed" / "checkpoint-1")
    shutil.copy(tmp_path / "whole" / "best_model.safetensors", tmp_path / "resumed")
    run_pretraining.main(pretraining_arguments(tones, tmp_path / "resumed", *more, "--resume_from_checkpoint"))
    resumed = COLAForPreTraining.from_pretrained(tmp_path / "resumed").state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in saved.items())


def test_the_probe_chooses_where_there_is_one(tones: Path, tmp_path: Path):
    for split in ("train", "test"):
        shutil.copytree(tones, tmp_path / "probe" / split)
    more = ("--probe_data", str(tmp_path / "probe"), "--load_best_model_at_end", "--eval_steps", "1")
    run_pretraining.main(pretraining_arguments(tones, tmp_path / "out", *more))
    accuracies = {entry["step"]: entry["probe_accuracy"] for entry in history(tmp_path / "out")}
    state = json.loads((tmp_path / "out" / "training_state.json").read_text())
    assert state["best_step"] == max(accuracies, key=accuracies.get)


def test_a_metric_that_the_run_does_not_have_is_named(tones: Path, tmp_path: Path):
    more = ("--load_best_model_at_end", "--metric_for_best_model", "probe_accuracy")
    with pytest.raises(ValueError, match="--metric_for_best_model probe_accuracy"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path, *more))
