"""The benchmark: evaluates checkpoints on a folder of labelled tasks."""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from run_scripts.evaluation.classification import train_classifier
from run_scripts.evaluation.classification_arguments import ClassificationArguments, DataArguments, ModelArguments
from run_scripts.evaluation.embedders import embed_clips
from run_scripts.evaluation.methods import MODES, TRAINED_MODES, Method, list_methods
from run_scripts.evaluation.probes import knn_evaluation, linear_evaluation, split_folds
from run_scripts.evaluation.results import (
    METRICS,
    Cells,
    Tables,
    earlier_rows,
    paper_rows,
    read_cells,
    summarise,
    write_results,
)
from run_scripts.evaluation.task_folders import find_tasks, is_as_published, load_task


logger = logging.getLogger(__name__)

# A linear layer on a frozen encoder is trained for the paper's 100 epochs, which take seconds.
FROZEN_EPOCHS = 100


@dataclass
class BenchmarkArguments:
    tasks_dir: str = field(metadata={"help": "The folder that holds a folder for each task."})
    output_dir: str = field(metadata={"help": "The folder for the results, the tables and the plots."})
    checkpoints: list[str] = field(
        default_factory=list, metadata={"help": "The checkpoints: folders or names of models on the Hub."}
    )
    tasks: list[str] | None = field(
        default=None, metadata={"help": "The names of the tasks to evaluate. Defaults to all tasks in --tasks_dir."}
    )
    modes: list[str] = field(
        default_factory=lambda: ["log-mel", "random", "frozen"],
        metadata={"help": f"The methods to compare, some of {', '.join(MODES)}."},
    )
    seeds: int = field(
        default=1, metadata={"help": "The number of seeds, for random weights and for training, to average over."}
    )
    epochs: int = field(
        default=20,
        metadata={"help": "The number of epochs in the modes supervised and fine-tuned. The paper trains for 100."},
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "Cross-validate on this many folds of the training clips in place of testing, to choose between "
            "checkpoints without reading a test clip. Clips with the same value in a column `group` share a fold."
        },
    )
    compare: str | None = field(
        default=None, metadata={"help": "The results.json of another run, whose columns are shown beside."}
    )

    def __post_init__(self) -> None:
        if unknown := set(self.modes) - set(MODES):
            raise ValueError(f"--modes must be some of {', '.join(MODES)}, got {', '.join(sorted(unknown))}.")
        for name, value in (("seeds", self.seeds), ("epochs", self.epochs)):
            if value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")
        if self.folds is not None and self.folds < 2:
            raise ValueError(f"--folds must be at least 2, got {self.folds}.")
        if self.folds is not None and set(TRAINED_MODES) & set(self.modes):
            raise ValueError(
                f"--folds evaluates frozen encoders only: leave {' and '.join(TRAINED_MODES)} out of --modes."
            )
        if self.compare and not Path(self.compare).is_file():
            raise FileNotFoundError(f"--compare {self.compare}: there is no such file. Name a run's results.json.")


def evaluate_classifier(method: Method, folder: Path, epochs: int, cache_dir: Path) -> dict[str, float]:
    """
    Trains a classifier on a task by the paper's protocol and tests it.

    Args:
        method ([`Method`]):
            The checkpoint, the mode and the seed.
        folder (`Path`):
            The folder of the task.
        epochs (`int`):
            The number of epochs of methods whose encoder is trained.
        cache_dir (`Path`):
            The folder that keeps the embeddings of frozen encoders.

    Returns:
        `dict[str, float]`: The test accuracy in %, and the seconds.
    """
    if is_as_published(folder):
        data_args = DataArguments(task=folder.name, data_dir=str(folder))
    else:
        data_args = DataArguments(dataset_name=str(folder))
    model_args = ModelArguments(model_name_or_path=method.checkpoint, mode=method.mode, embedding_cache=str(cache_dir))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as output_dir:
        args = ClassificationArguments(
            output_dir=output_dir,
            seed=method.seed,
            num_train_epochs=epochs if method.mode in TRAINED_MODES else FROZEN_EPOCHS,
            save_only_model=True,
            disable_tqdm=True,
        )
        results = train_classifier(model_args, data_args, args)
    return {"accuracy": 100 * results["accuracy"], "seconds": time.perf_counter() - started}


def evaluate_embeddings(
    methods: list[Method], splits: DatasetDict, name: str, folds: int | None = None
) -> dict[Method, dict[str, float]]:
    """
    Evaluates the embeddings of whole clips by logistic regression and by nearest neighbours.

    Args:
        methods (`list[Method]`):
            The methods. Those with the same encoder are evaluated once.
        splits (`DatasetDict`):
            The clips: `train` and `test`, or `train` alone with `folds`.
        name (`str`):
            The name of the task, for progress bars.
        folds (`int`, *optional*):
            Cross-validate on this many folds of the training clips.

    Returns:
        `dict[Method, dict[str, float]]`: For each method the accuracies in %, and the seconds that embedding and
        fitting took.
    """
    first = {method.encoder_hash: method for method in reversed(methods)}
    embedders = {method.label: method.embedder() for method in first.values()}
    embedded = {split: embed_clips(embedders, clips, name) for split, clips in splits.items()}
    metrics = {}
    for encoder_hash, method in first.items():
        started = time.perf_counter()
        vectors = {split: split_vectors[method.label] for split, (split_vectors, _) in embedded.items()}
        metrics[encoder_hash] = probe_vectors(vectors, splits, folds)
        embedding_seconds = sum(split_seconds[method.label] for _, split_seconds in embedded.values())
        metrics[encoder_hash]["seconds"] = time.perf_counter() - started + embedding_seconds
    return {method: metrics[method.encoder_hash] for method in methods}


def probe_vectors(vectors: dict[str, np.ndarray], splits: DatasetDict, folds: int | None) -> dict[str, float]:
    """Computes the accuracies in % of the probes on vectors `[N, D]` of each split, or over folds of `train`."""
    labels = {split: np.array(clips["label"]) for split, clips in splits.items()}
    if folds is None:
        trials = [(vectors["train"], labels["train"], vectors["test"], labels["test"])]
    else:
        x, y = vectors["train"], labels["train"]
        trials = [(x[fit], y[fit], x[held_out], y[held_out]) for fit, held_out in split_folds(splits["train"], folds)]
    sizes = [len(held_out_labels) for _, _, _, held_out_labels in trials]
    return {
        "logistic": float(np.average([linear_evaluation(*trial) for trial in trials], weights=sizes)),
        "knn": float(np.average([knn_evaluation(*trial) for trial in trials], weights=sizes)),
    }


@contextmanager
def record_failure(name: str, failures: dict[str, Exception]) -> Iterator[None]:
    """Logs an error in the task or method of this name and adds it to `failures`, so that the benchmark continues."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        logger.warning(f"{name} is left out: {error}")
        failures[name] = error


def evaluate_methods(
    folder: Path, methods: list[Method], args: BenchmarkArguments, failures: dict[str, Exception]
) -> list[dict[str, Any]]:
    """
    Evaluates methods on one task, except for those whose results were written by an earlier run.

    Args:
        folder (`Path`):
            The folder of the task.
        methods (`list[Method]`):
            The methods.
        args ([`BenchmarkArguments`]):
            The benchmark's arguments.
        failures (`dict[str, Exception]`):
            Receives the errors of methods that cannot be evaluated.

    Returns:
        `list[dict[str, Any]]`: The cells of the methods, in their order.
    """
    splits = load_task(folder)
    if args.folds:
        splits = DatasetDict(train=splits["train"])
    output_dir = Path(args.output_dir)
    cells = Cells(output_dir / "cells" / folder.name, splits, args.epochs, args.folds)
    missing = [method for method in methods if cells.read(method) is None]
    # An encoder that is trained on the task has no embeddings to evaluate before that.
    metrics = {method: {"seconds": 0.0} for method in missing if method.mode in TRAINED_MODES}
    if frozen := [method for method in missing if method.mode not in TRAINED_MODES]:
        with record_failure(folder.name, failures):
            metrics |= evaluate_embeddings(frozen, splits, folder.name, args.folds)
    for method in missing:
        if method in metrics:
            with record_failure(f"{folder.name}: {method.label}", failures):
                if method.checkpoint is not None and not args.folds:
                    trained = evaluate_classifier(method, folder, args.epochs, output_dir / "embeddings")
                    trained["seconds"] += metrics[method]["seconds"]
                    metrics[method] |= trained
                cells.write(method, metrics[method])
    return [cell for method in methods if (cell := cells.read(method)) is not None]


def describe_cell(cell: dict[str, Any]) -> str:
    """Describes a cell in a line for the terminal."""
    metrics = ", ".join(f"{metric} {cell[metric]:.1f}" for metric in METRICS if cell[metric] is not None)
    return f"{cell['task']}: {cell['method']}, seed {cell['seed']}: {metrics} ({cell['seconds']:.0f} s)"


def evaluate(args: BenchmarkArguments) -> Tables:
    """
    Evaluates checkpoints on all tasks and writes the results to `args.output_dir`.

    Tasks and methods that cannot be evaluated are reported and left out, unless these are all of them.

    Args:
        args ([`BenchmarkArguments`]):
            The tasks, the checkpoints, and how to evaluate them.

    Returns:
        `dict[str, dict[str, dict[str, float]]]`: `tables[metric][task][method]`, an accuracy in %. The metrics are
        `accuracy` (classifiers trained as in the paper), `logistic` and `knn`.

    Raises:
        `ValueError`, `OSError`: If an argument cannot be used, or if no task can be evaluated; the message says why.
    """
    folders = find_tasks(args.tasks_dir, args.tasks)
    methods = list_methods(args.checkpoints, args.modes, args.seeds)
    earlier = read_cells(args.compare) if args.compare else []
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    cells, failures = [], {}
    with logging_redirect_tqdm():
        for folder in tqdm(folders, desc="Tasks"):
            with record_failure(folder.name, failures):
                task_cells = evaluate_methods(folder, methods, args, failures)
                cells += task_cells
                for cell in task_cells:
                    tqdm.write(describe_cell(cell))
    if not cells:
        raise next(iter(failures.values()))
    rows = summarise(cells)
    rows += paper_rows(list(dict.fromkeys(cell["task"] for cell in cells)), args.modes)
    if args.compare:
        rows += earlier_rows(earlier, cells, run=Path(args.compare).resolve().parent.name)
    return write_results(output_dir, cells, rows, format_caption(args), failures)


def format_caption(args: BenchmarkArguments) -> str:
    """Says what the values in the tables are."""
    caption = "Accuracy in %"
    if args.folds:
        caption += f" over {args.folds} folds of the training clips"
    if args.seeds > 1:
        caption += ", mean ± standard deviation over seeds"
    return caption + "."
