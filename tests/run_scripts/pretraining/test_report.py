"""The card and the plots of a run, and what of them is pushed to the Hub."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard

from helpers import pretraining_arguments, with_teacher
from hub_server import serving_hub
from modeling_cola import SENTENCE_TRANSFORMERS_FILES, COLAConfig, COLAForPreTraining
from run_scripts import run_pretraining
from run_scripts.common.errors import UserError
from run_scripts.pretraining import report
from run_scripts.pretraining.checkpointing import RunState
from run_scripts.pretraining.objectives import OBJECTIVES
from run_scripts.pretraining.report import draw_plots
from run_scripts.pretraining.validation import HeldOutPairs


def test_the_card_says_what_was_in_force(tones: Path, tmp_path: Path):
    arguments = ("--recipe", "best", "--pooling", "max", "--learning_rate", "0.004", "--max_steps", "1")
    run_pretraining.main(pretraining_arguments(tones, tmp_path, *arguments))
    card = (tmp_path / "README.md").read_text()
    assert "| learning_rate | 0.004 |" in card and "| pooling | max |" in card and "| equalizer_std | 0.5 |" in card
    assert "statistics" not in card
    assert "| projection_hidden_size | 1024 |" in card  # the recipe's
    assert f"| dataset_name | {tones.name} |" in card and str(tones.parent) not in card
    assert ModelCard.load(tmp_path / "README.md").data.pipeline_tag == "feature-extraction"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_similarities_are_drawn_where_there_are_any(tmp_path: Path, objective: str):
    model = with_teacher(OBJECTIVES[objective](COLAConfig(encoder="compact", compact_channels=8, hidden_size=32)))
    segments = torch.randn(2, 8, 96 * model.num_windows, 64)
    held_out = HeldOutPairs({"input_values": segments[0], "positive_values": segments[1], "gaps": torch.rand(8)})
    draw_plots(model, held_out, RunState(history=[{"step": 1, "loss": 1.0}]), 8, 1, tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    similarity = {"similarity_matrix"} if objective in ("contrastive", "triplet") else set()
    assert drawn == {"training_curves", "embedding_map"} | similarity


def test_a_plot_that_cannot_be_drawn_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*args: Any) -> None:
        raise RuntimeError("no such colour")

    monkeypatch.setattr(report, "plot_similarity_matrix", fail)
    model = COLAForPreTraining(COLAConfig(encoder="compact", compact_channels=8, hidden_size=32))
    segments = torch.randn(2, 8, 96, 64)
    held_out = HeldOutPairs({"input_values": segments[0], "positive_values": segments[1], "gaps": torch.rand(8)})
    draw_plots(model, held_out, RunState(history=[{"step": 1, "loss": 1.0}]), 8, 1, tmp_path)
    assert "similarity_matrix.png could not be drawn: RuntimeError: no such colour" in caplog.text
    assert {path.stem for path in tmp_path.glob("*.png")} == {"training_curves", "embedding_map"}


def test_model_extractor_card_and_plots_are_pushed_in_one_commit(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with serving_hub(monkeypatch) as hub:
        more = ("--push_to_hub", "--hub_model_id", "somebody/cola-tones", "--validation_clips", "8")
        more += ("--license", "cc-by-4.0")
        run_pretraining.main(pretraining_arguments(tones, tmp_path, *more))
    assert hub.repositories == ["somebody/cola-tones"]
    (files,) = hub.commits
    code = {"configuration_cola.py", "modeling_cola.py", "feature_extraction_cola.py"}
    saved = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "training_curves.png"}
    assert set(files) == code | saved | set(SENTENCE_TRANSFORMERS_FILES)
    assert all(content == (tmp_path / name).read_bytes() for name, content in files.items())
    data = ModelCard(files["README.md"].decode()).data
    assert data.license == "cc-by-4.0" and data.metrics == ["accuracy"]
    assert data.base_model is None and data.datasets is None  # neither is on the Hub
    (result,) = data.eval_results
    metrics = json.loads((tmp_path / "training_state.json").read_text())["history"][-1]
    assert result.metric_name == "pretext accuracy"
    assert result.metric_value == round(metrics["validation_accuracy"], 4)
    weights = safetensors.torch.load(files["model.safetensors"])
    assert weights.keys() == COLAForPreTraining.from_pretrained(tmp_path).state_dict().keys()


def test_a_repository_that_cannot_be_made_stops_the_run_before_it_starts(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="--push_to_hub: the repository .* cannot be created"):
        run_pretraining.main(pretraining_arguments(tones, tmp_path, "--push_to_hub"))
    assert not list(tmp_path.glob("checkpoint-*"))
