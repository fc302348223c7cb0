"""What is left beside a trained classifier: plots of its metrics by class, and a model card."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from huggingface_hub import EvalResult, ModelCardData
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score

from modeling_cola import COLAConfig
from run_scripts.classification.arguments import CHECKPOINT_MODES, MODES, DataArguments, ModelArguments
from run_scripts.common.cards import write_card
from run_scripts.common.hub import hub_name
from run_scripts.common.plots import plot_class_bars, plot_confusion_matrix


if TYPE_CHECKING:  # of the Trainer, which writes the card
    from run_scripts.classification.trainer import ClassificationArguments


# The name of each metric for readers, and on the Hub.
METRICS = {"accuracy": ("accuracy", "accuracy"), "map": ("mAP", "mAP"), "macro_f1": ("macro F1", "f1")}

# A confusion matrix of more classes is too large to look at.
MAX_CONFUSION_CLASSES = 100

PER_CLASS, CONFUSION_MATRIX = PLOTS = ("per_class.png", "confusion_matrix.png")
# A clip to try the classifier with: a bell, with the frequencies of its partials relative to the second one.
EXAMPLE, EXAMPLE_RATE = "example.flac", 16000
BELL_RATIOS = (0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.0)


def plot_metrics(logits: np.ndarray, labels: np.ndarray, names: list[str], output_dir: Path) -> None:
    """
    Plots the metrics of each class and, for clips of one label, the confusion matrix: `per_class.png` and
    `confusion_matrix.png`.

    Args:
        logits (`np.ndarray` of shape `(N, num_labels)`):
            The classifier's predictions.
        labels (`np.ndarray`):
            The true classes: indices `[N]`, or vectors of 0 and 1, `[N, num_labels]`.
    """
    if labels.ndim == 2:
        plot_class_bars(average_precisions(logits, labels), names, output_dir / PER_CLASS, "average precision")
        return
    predicted = logits.argmax(-1)
    f1 = f1_score(labels, predicted, labels=range(len(names)), average=None, zero_division=0)
    f1[~np.isin(range(len(names)), labels)] = np.nan  # These classes have no test clips.
    plot_class_bars(f1, names, output_dir / PER_CLASS, "F1")
    if len(names) <= MAX_CONFUSION_CLASSES:
        matrix = confusion_matrix(labels, predicted, labels=range(len(names)))
        plot_confusion_matrix(matrix, names, output_dir / CONFUSION_MATRIX)


def average_precisions(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    Computes the average precision of each class, `[num_labels]`, and NaN for a class that occurs in no clip, from the
    classifier's predictions and vectors of 0 and 1, both `[N, num_labels]`.
    """
    scored = zip(labels.T, logits.T)
    return np.array([average_precision_score(truth, score) if truth.any() else np.nan for truth, score in scored])


def describe_recipe(model_args: ModelArguments, args: "ClassificationArguments", config: COLAConfig) -> dict[str, Any]:
    """Lists the settings of a training run, by their names in the model card."""
    checkpoint = model_args.model_name_or_path
    kept = f"the epoch of the best validation {args.metric_for_best_model}"
    recipe = {
        "checkpoint": Path(checkpoint).resolve().name if checkpoint else "none",
        "encoder": config.encoder,
        "mode": model_args.mode,
        "epochs": f"{args.num_train_epochs:g}",
        "weights kept": kept if args.load_best_model_at_end else "the last epoch",
        "batch size": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "optimiser": f"{args.optim.value}, weight decay {args.weight_decay:g}",
        "learning rate": f"{args.learning_rate:g}, {args.lr_scheduler_type.value}",
        "training segments": f"random, {config.window_size} frames",
        "seed": args.seed,
    }
    if args.class_weights != "none":
        recipe["class weights"] = args.class_weights
    if args.early_stopping_patience is not None:
        recipe["early stopping"] = f"after {args.early_stopping_patience} evaluations without improvement"
    return recipe


def describe_origin(
    model_args: ModelArguments, data_args: DataArguments, args: "ClassificationArguments"
) -> dict[str, Any]:
    """What the Hub reads of a classifier's origin: its base model and its data if they are on the Hub, its licence."""
    data = hub_name(data_args.dataset_name)
    starts_from_weights = model_args.mode in CHECKPOINT_MODES
    return {
        "license": args.license,
        "base_model": hub_name(model_args.model_name_or_path) if starts_from_weights else None,
        "datasets": [data] if data else None,
    }


def write_example(output_dir: Path) -> None:
    """Writes the sound of a bell, computed here, which the page of the model on the Hub offers to classify."""
    seconds = np.arange(3 * EXAMPLE_RATE) / EXAMPLE_RATE
    partials = (np.exp(-ratio * seconds) * np.sin(2 * np.pi * 440 * ratio * seconds) for ratio in BELL_RATIOS)
    soundfile.write(output_dir / EXAMPLE, 0.1 * sum(partials), EXAMPLE_RATE)


def write_model_card(
    output_dir: Path, results: dict[str, Any], recipe: dict[str, Any], origin: dict[str, Any]
) -> None:
    """
    Writes the model card of a classifier and the clip that its page on the Hub offers to classify. The folder is that
    of the model, which has its name, and those of `PLOTS` that were drawn; `results` is what `train_classifier`
    returns.
    """
    write_example(output_dir)
    name = output_dir.resolve().name
    metrics = {key: results[key] for key in METRICS if key in results}
    eval_results = [
        EvalResult(
            task_type="audio-classification",
            dataset_type=(origin["datasets"] or [results["data"]])[0],
            dataset_name=results["data"],
            dataset_split="test",
            metric_type=METRICS[key][1],
            metric_name=METRICS[key][0],
            metric_value=round(value, 4),
        )
        for key, value in metrics.items()
    ]
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["audio", "cola"],
        widget=[{"src": EXAMPLE, "example_title": "A synthetic bell"}],
        **origin,
        metrics=[METRICS[key][1] for key in metrics],
        model_name=name,
        eval_results=eval_results or None,
    )
    multi_label = "map" in results
    write_card(
        output_dir / "README.md",
        "classifier",
        card_data,
        name=name,
        mode_description=MODES[results["mode"]],
        results=results,
        metrics={METRICS[key][0]: value for key, value in metrics.items()},
        recipe=recipe,
        multi_label=multi_label,
        has_class_bars=(output_dir / PER_CLASS).is_file(),
        has_confusion_matrix=(output_dir / CONFUSION_MATRIX).is_file(),
    )
