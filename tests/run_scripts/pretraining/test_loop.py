"""The training loop."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers import pretraining_arguments
from modeling_cola import COLAConfig, COLAForPreTraining
from modeling_cola.modeling_cola import COLAEncoder
from run_scripts import run_pretraining
from run_scripts.common.errors import UserError
from run_scripts.pretraining.loop import build_optimizer, check_compiler
from run_scripts.pretraining.recipes import RECIPES


def history(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "training_state.json").read_text())["history"]


def test_norms_and_biases_do_not_decay():
    model = COLAForPreTraining(COLAConfig(encoder="compact"))
    optimizer = build_optimizer(model, RECIPES["modern"].training)
    others, decayed = sorted(optimizer.param_groups, key=lambda group: group["weight_decay"])
    assert decayed["weight_decay"] == 0.05 and others["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"]) and all(p.ndim <= 1 for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_run(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str):
    """It learns what another run does, its checkpoints have the same names, and it resumes exactly."""
    compiled = []

    def compile_with_backend(module: torch.nn.Module) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend=backend)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with_backend)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    plain, whole, resumed = (tmp_path / name for name in ("plain", "whole", "resumed"))
    run_pretraining.main(pretraining_arguments(tones, plain))
    assert not compiled
    arguments = ("--torch_compile", "--save_total_limit", "9")
    run_pretraining.main(pretraining_arguments(tones, whole, *arguments))
    assert [type(module) for module in compiled] == [COLAEncoder]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # of training; validation is not compiled
    weights, others = (
        safetensors.torch.load_file(folder / "checkpoint-4" / "model.safetensors") for folder in (plain, whole)
    )
    assert weights.keys() == others.keys()
    for entry, other in zip(history(plain), history(whole), strict=True):
        assert entry["loss"] == pytest.approx(other["loss"], rel=1e-3)

    shutil.copytree(whole / "checkpoint-2", resumed / "checkpoint-2")
    run_pretraining.main(pretraining_arguments(tones, resumed, *arguments, "--resume_from_checkpoint"))
    assert [entry["loss"] for entry in history(resumed)] == [entry["loss"] for entry in history(whole)]
    again = safetensors.torch.load_file(resumed / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in others.items())


def test_a_run_that_accelerate_compiles(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`accelerate launch --dynamo_backend` compiles the whole model, which has the same names and resumes, too."""
    plain, whole, resumed = (tmp_path / name for name in ("plain", "whole", "resumed"))
    run_pretraining.main(pretraining_arguments(tones, plain))
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "eager")
    run_pretraining.main(pretraining_arguments(tones, whole, "--save_total_limit", "9"))
    shutil.copytree(whole / "checkpoint-2", resumed / "checkpoint-2")
    run_pretraining.main(pretraining_arguments(tones, resumed, "--resume_from_checkpoint"))
    names = [set(safetensors.torch.load_file(run / "checkpoint-4" / "model.safetensors")) for run in (plain, whole)]
    assert names[0] == names[1]
    for run in (whole, resumed):
        assert [entry["loss"] for entry in history(run)] == [entry["loss"] for entry in history(plain)]


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    check_compiler(torch.device("cuda"))
    with pytest.raises(UserError, match="--torch_compile needs a C.. compiler: install g.."):
        check_compiler(torch.device("cpu"))


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


@pytest.mark.parametrize("change", ["metric", "weights"])
def test_a_best_step_that_cannot_be_loaded_is_forgotten(
    tones: Path, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
):
    more = ("--load_best_model_at_end", "--eval_steps", "1", "--save_steps", "1", "--save_total_limit", "0")
    run_pretraining.main(pretraining_arguments(tones, tmp_path, *more, "--max_steps", "2"))
    if change == "metric":
        more += ("--metric_for_best_model", "validation_accuracy")
    else:
        (tmp_path / "best_model.safetensors").unlink()
    run_pretraining.main(
        pretraining_arguments(
            tones, tmp_path, *more, "--max_steps", "2", "--resume_from_checkpoint", str(tmp_path / "checkpoint-1")
        )
    )
    assert "the best so far, were chosen by another metric or are not in" in caplog.text
    state = json.loads((tmp_path / "training_state.json").read_text())
    assert state["best_step"] == 2


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
