"""What a run leaves behind: the model, its card, its plots, and a copy of them on the Hub."""

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import EvalResult, HfApi, ModelCardData

from feature_extraction import COLAFeatureExtractor
from modeling_cola import SENTENCE_TRANSFORMERS_FILES, COLAForPreTraining, COLAPreTrainedModel
from run_scripts.common.cards import write_card
from run_scripts.common.checkpoints import share_weights
from run_scripts.common.files import write_json
from run_scripts.common.hub import hub_name
from run_scripts.common.plots import (
    optional_plot,
    plot_embedding_map,
    plot_similarity_matrix,
    plot_training_curves,
)
from run_scripts.pretraining.arguments import DataArguments, PretrainingArguments
from run_scripts.pretraining.checkpointing import RunState
from run_scripts.pretraining.recipes import CONTRASTIVE_SETTINGS, ModelSettings, TrainingSettings
from run_scripts.pretraining.validation import HeldOutPairs, evaluating, inputs_of


logger = logging.getLogger(__name__)

# What is pushed: neither checkpoints nor lists of files on this machine.
PUSHED = [
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "*.py",
    "README.md",
    "*.png",
    *SENTENCE_TRANSFORMERS_FILES,
]
# Fewer recordings than this make no meaningful plot.
MIN_RECORDINGS_TO_PLOT = 8


def settings_in_force(
    model: COLAPreTrainedModel, settings: TrainingSettings, data_args: DataArguments, args: PretrainingArguments
) -> dict[str, Any]:
    """All settings of a run by name, those of the model as its configuration has them."""
    config = model.config
    values = {name: getattr(config, name) for name in asdict(ModelSettings()) if name != "segment_frames"}
    values["segment_frames"] = config.window_size
    if not isinstance(model, COLAForPreTraining):
        for name in CONTRASTIVE_SETTINGS:
            del values[name]
    return values | asdict(settings) | asdict(data_args) | asdict(args)


def save_results(
    model: COLAPreTrainedModel,
    extractor: COLAFeatureExtractor,
    state: RunState,
    settings: dict[str, Any],
    output_dir: Path,
) -> None:
    """Saves the model (of other objectives than the contrastive one the encoder alone), its card and the log."""
    if isinstance(model, COLAForPreTraining):
        model.save_pretrained(output_dir)
    else:
        model.cola.save_pretrained(output_dir)
    extractor.save_pretrained(output_dir)
    share_weights(output_dir)
    # JSON has no infinity.
    arguments = {name: None if value == math.inf else value for name, value in settings.items()}
    saved = {"arguments": arguments, "history": state.history, "best_step": state.best_step}
    write_json(output_dir / "training_state.json", saved)
    write_model_card(state, settings, output_dir)


def write_model_card(state: RunState, settings: dict[str, Any], output_dir: Path) -> None:
    """Writes `README.md`, with the settings in force and the last value of each metric."""
    metrics = {}
    for entry in state.history:
        metrics |= entry
    # Folders by their names alone: their paths are of this machine.
    hidden = ("output_dir", "license")
    shown = {name: value for name, value in settings.items() if value is not None and name not in hidden}
    names = [Path(name).name for name in settings["dataset_name"] or ()]
    if names:
        shown["dataset_name"] = ", ".join(names)
    data_name = " and ".join(
        [", ".join(names)] * bool(names) + ["synthetic sounds"] * bool(settings["synthetic_share"])
    )
    for name in ("probe_data", "model_name_or_path", "teacher_name_or_path"):
        if name in shown:
            shown[name] = Path(shown[name]).name
    note = "The last value of each metric in training."
    if "accuracy" in metrics:
        note += (
            " The accuracies are those of the pretext task, on batches of "
            f"{settings['per_device_train_batch_size']} pairs in each process."
        )
    if settings["load_best_model_at_end"]:
        note += f" The weights are those of step {state.best_step}, whose validation was the best."
    write_card(
        output_dir / "README.md",
        "encoder",
        _card_data(settings, data_name, metrics, output_dir.resolve().name),
        data_name=data_name,
        model_name=output_dir.name,
        source=_describe_objective(shown),
        settings=shown,
        metrics=metrics,
        metrics_note=note,
    )


def _describe_objective(settings: dict[str, Any]) -> str:
    objective = settings["objective"]
    if objective == "contrastive":
        return "by COLA"
    if objective == "distillation":
        return f"by distillation from `{settings['teacher_name_or_path']}`"
    return f"by the objective `{objective}`, one of those that the paper of COLA compares it with"


def _card_data(settings: dict[str, Any], data_name: str, metrics: dict[str, float], name: str) -> ModelCardData:
    """What the Hub reads: where data and weights are from, and the pretext accuracy on the held-out pairs."""
    tags = ["audio", "cola", "self-supervised-learning"]
    if settings["objective"] == "contrastive":
        tags.insert(2, "contrastive-learning")
    data = [name for name in settings["dataset_name"] or () if hub_name(name)]
    results = None
    if "validation_accuracy" in metrics:
        pretext_accuracy = EvalResult(
            task_type="feature-extraction",
            dataset_type=data[0] if len(data) == 1 else data_name,
            dataset_name=data_name,
            dataset_split="held-out pairs",
            metric_type="accuracy",
            metric_name="pretext accuracy",
            metric_value=round(metrics["validation_accuracy"], 4),
        )
        results = [pretext_accuracy]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="feature-extraction",
        license=settings["license"],
        base_model=hub_name(settings["model_name_or_path"]),
        datasets=data or None,
        metrics=["accuracy"] if results else None,
        tags=tags,
        model_name=name,
        eval_results=results,
    )


def draw_plots(
    model: COLAPreTrainedModel,
    held_out: HeldOutPairs,
    state: RunState,
    batch_size: int,
    num_processes: int,
    output_dir: Path,
) -> None:
    """
    Draws the training curves, and of the held-out pairs the similarity matrix, if the objective computes
    similarities, and a map of their embeddings. A plot that cannot be drawn is a warning.
    """
    chance = {"accuracy": 1 / batch_size}
    if isinstance(model, COLAForPreTraining):  # which gathers the positives of all processes
        num_candidates = batch_size * num_processes
        chance = {"loss": np.log(num_candidates), "accuracy": 1 / num_candidates}
    path = output_dir / "training_curves.png"
    with optional_plot(path):
        plot_training_curves(state.history, path, chance, f"Pairs of {held_out.kind}")
    if len(held_out) < MIN_RECORDINGS_TO_PLOT:
        logger.info(
            f"Only {len(held_out)} pairs are held out: a similarity matrix and a map need at least "
            f"{MIN_RECORDINGS_TO_PLOT}."
        )
        return
    with evaluating(model):
        logits = model(**inputs_of(model, held_out.take(64), gather_positives=False)).logits
        segments = torch.cat([held_out.inputs["input_values"], held_out.inputs["positive_values"]])
        embeddings = model.cola(segments.to(model.device)).pooler_output
    if logits is not None:
        path = output_dir / "similarity_matrix.png"
        with optional_plot(path):
            plot_similarity_matrix(logits.float().cpu().numpy(), path, held_out.kind)
    labels = None if held_out.labels is None else held_out.labels * 2  # of the anchors, then of the positives
    title, path = f"Held-out pairs of {held_out.kind}, joined by lines (t-SNE of h)", output_dir / "embedding_map.png"
    with optional_plot(path):
        plot_embedding_map(embeddings.float().cpu().numpy(), path, labels, pairs=True, title=title)


def push_to_hub(output_dir: Path, repo_id: str) -> None:
    """Pushes the model, the feature extractor, the card and the plots in one commit."""
    HfApi().upload_folder(
        repo_id=repo_id,
        folder_path=output_dir,
        allow_patterns=PUSHED,
        commit_message="Upload COLA, its feature extractor, card and plots",
    )
