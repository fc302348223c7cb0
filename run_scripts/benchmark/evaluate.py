"""The benchmark: evaluates checkpoints on a folder of labelled tasks."""

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import DatasetDict
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from feature_extraction import BadClipError, describe_splits
from run_scripts.benchmark.arguments import TRAINED_MODES, BenchmarkArguments
from run_scripts.benchmark.learning_curves import learning_curve
from run_scripts.benchmark.methods import Method, list_methods
from run_scripts.benchmark.probes import knn_evaluation, linear_evaluation, split_folds
from run_scripts.benchmark.results import (
    METRICS,
    Tables,
    earlier_rows,
    format_report,
    paper_rows,
    read_results,
    summarise,
    write_results,
)
from run_scripts.benchmark.store import ResultsStore
from run_scripts.benchmark.tasks import find_tasks, is_as_published, load_task
from run_scripts.classification import train
from run_scripts.classification.arguments import DataArguments, ModelArguments
from run_scripts.classification.bad_clips import drop_bad_clips, suggest_skipping
from run_scripts.classification.train import train_classifier
from run_scripts.classification.trainer import ClassificationArguments
from run_scripts.common.errors import UserError
from run_scripts.common.files import DiskFullError, is_disk_full
from run_scripts.common.quiet import each_message_once, quiet_libraries
from run_scripts.common.skipped import SKIPPED, count_kinds, read_notes, write_skipped
from run_scripts.embedding.encode import embed_split


logger = logging.getLogger(__name__)

# A linear layer on a frozen encoder is trained for the paper's 100 epochs, which take seconds.
FROZEN_EPOCHS = 100

# The Trainer's names of those arguments of training that the benchmark calls by another one.
TRAINER_NAMES = {"epochs": "num_train_epochs", "batch_size": "per_device_train_batch_size"}


def evaluate_classifier(method: Method, folder: Path, args: BenchmarkArguments) -> dict[str, float]:
    """Trains a classifier on the task in a folder and tests it: the test accuracy in %, and the seconds."""
    if is_as_published(folder):
        data_args = DataArguments(task=folder.name, data_dir=str(folder), skip_bad_clips=args.skip_bad_clips)
    else:
        data_args = DataArguments(dataset_name=str(folder), skip_bad_clips=args.skip_bad_clips)
    training = args.training(method.mode) or {"epochs": FROZEN_EPOCHS}
    model_args = ModelArguments(
        model_name_or_path=method.checkpoint,
        mode=method.mode,
        freeze_batch_norm=training.pop("freeze_batch_norm", False),
        embedding_cache=str(Path(args.output_dir) / "embeddings"),
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as output_dir:
        trainer_args = ClassificationArguments(
            output_dir=output_dir,
            seed=method.seed,
            save_only_model=True,
            disable_tqdm=True,
            **{TRAINER_NAMES.get(name, name): value for name, value in training.items()},
        )
        results = train_classifier(model_args, data_args, trainer_args, verbose=False)
    return {"accuracy": 100 * results["accuracy"], "seconds": time.perf_counter() - started}


def evaluate_embeddings(
    methods: list[Method], splits: DatasetDict, name: str, folds: int | None = None
) -> dict[Method, dict[str, float]]:
    """
    Evaluates the embeddings of whole clips by logistic regression and by nearest neighbours, on the splits `train` and
    `test` or on `folds` folds of `train`. Methods with the same encoder are evaluated once.

    Returns:
        `dict[Method, dict[str, float]]`: For each method the accuracies in %, and the seconds that embedding and
        fitting took.
    """
    first = {method.encoder_hash: method for method in reversed(methods)}
    embedders = {method.label: method.embedder() for method in first.values()}
    embedded = {split: embed_split(embedders, clips, name) for split, clips in splits.items()}
    metrics = {}
    for encoder_hash, method in first.items():
        started = time.perf_counter()
        vectors = {split: split_vectors[method.label] for split, (split_vectors, _) in embedded.items()}
        metrics[encoder_hash] = probe_vectors(vectors, splits, folds)
        embedding_seconds = sum(split_seconds[method.label] for _, split_seconds in embedded.values())
        metrics[encoder_hash]["seconds"] = time.perf_counter() - started + embedding_seconds
    return {method: dict(metrics[method.encoder_hash]) for method in methods}


def probe_vectors(vectors: dict[str, np.ndarray], splits: DatasetDict, folds: int | None) -> dict[str, float]:
    """Computes the accuracies in % of the probes on vectors `[N, D]` of each split, or over folds of `train`."""
    labels = {split: np.array(clips["label"]) for split, clips in splits.items()}
    if folds is None:
        trials = [(vectors["train"], labels["train"], vectors["test"], labels["test"])]
    else:
        x, y = vectors["train"], labels["train"]
        trials = [(x[fit], y[fit], x[held_out], y[held_out]) for fit, held_out in split_folds(splits["train"], folds)]
    sizes = [len(held_out_labels) for _, _, _, held_out_labels in trials]
    metrics = {
        "logistic": float(np.average([linear_evaluation(*trial) for trial in trials], weights=sizes)),
        "knn": float(np.average([knn_evaluation(*trial) for trial in trials], weights=sizes)),
    }
    return metrics if folds else metrics | learning_curve(*trials[0])


@contextmanager
def record_failure(name: str, failures: dict[str, Exception]) -> Iterator[None]:
    """Logs an error in the task or method of this name and adds it to `failures`, so that the benchmark continues."""
    try:
        with suggest_skipping():
            yield
    except (ValueError, OSError, RuntimeError) as error:
        logger.warning(f"{name} is left out: {error}")
        failures[name] = error


@dataclass
class LoadedTask:
    """A task's folder, its clips, its results, and those methods that have none yet."""

    folder: Path
    splits: DatasetDict
    store: ResultsStore
    missing: list[Method]

    def results(self, methods: list[Method]) -> list[dict[str, Any]]:
        """Reads the results of methods, in their order."""
        return [result for method in methods if (result := self.store.read(method)) is not None]


def load_tasks(methods: list[Method], args: BenchmarkArguments, failures: dict[str, Exception]) -> list[LoadedTask]:
    """Loads all tasks, without decoding clips. Those that cannot be loaded are added to `failures`."""
    tasks = []
    for folder in find_tasks(args.tasks_dir, args.tasks):
        with record_failure(folder.name, failures):
            splits = load_task(folder)
            logger.info(f"{folder.name}: {describe_splits(splits)}")
            if args.folds:
                splits = DatasetDict(train=splits["train"])
            store = ResultsStore(Path(args.output_dir) / "results" / folder.name, splits, args)
            missing = [method for method in methods if store.read(method) is None]
            tasks.append(LoadedTask(folder, splits, store, missing))
    return tasks


def skip_bad_clips(task: LoadedTask, output_dir: Path) -> None:
    """Leaves out the clips of a task that cannot be used, and adds them to the list in the output folder."""
    task.splits, notes = drop_bad_clips(task.splits, name=task.folder.name)
    task.store.splits = task.splits
    if notes:
        logger.warning(f"{task.folder.name}: skipped {count_kinds(notes)}; {output_dir / SKIPPED} lists them.")
        write_skipped(output_dir, read_notes(output_dir / SKIPPED) + notes)


def evaluate_methods(task: LoadedTask, args: BenchmarkArguments, failures: dict[str, Exception]) -> None:
    """
    Evaluates those methods on a task that have no results yet, and writes their results. Errors of methods that cannot
    be evaluated are added to `failures`.
    """
    name, output_dir = task.folder.name, Path(args.output_dir)
    if task.missing and args.skip_bad_clips:
        skip_bad_clips(task, output_dir)
    # An encoder that is trained on the task has no embeddings to evaluate before that.
    metrics = {method: {"seconds": 0.0} for method in task.missing if method.mode in TRAINED_MODES}
    if frozen := [method for method in task.missing if method.mode not in TRAINED_MODES]:
        with record_failure(name, failures):
            metrics |= evaluate_embeddings(frozen, task.splits, name, args.folds)
    for method in task.missing:
        if method in metrics:
            with record_failure(f"{name}: {method.label}", failures):
                if method.checkpoint is not None and not args.folds:
                    trained = evaluate_classifier(method, task.folder, args)
                    trained["seconds"] += metrics[method]["seconds"]
                    metrics[method] |= trained
                task.store.write(method, metrics[method])


def describe_result(result: dict[str, Any]) -> str:
    """Describes a result in a line for the terminal."""
    metrics = ", ".join(f"{metric} {result[metric]:.1f}" for metric in METRICS if result[metric] is not None)
    return f"{result['task']}: {result['method']}, seed {result['seed']}: {metrics} ({result['seconds']:.0f} s)"


def evaluate(args: BenchmarkArguments) -> Tables:
    """
    Evaluates checkpoints on all tasks and writes the results to `args.output_dir`.

    The tables are printed before anything is evaluated, if an earlier run left results, and at the end. Tasks and
    methods that cannot be evaluated are reported and left out, unless these are all of them.

    Args:
        args ([`BenchmarkArguments`]):
            The tasks, the checkpoints, and how to evaluate them.

    Returns:
        `dict[str, pd.DataFrame]`: For each metric the accuracy in % of each task (row) and method (column). The
        metrics are `accuracy` (classifiers trained as in the paper), `logistic` and `knn`.

    Raises:
        `ValueError`, `OSError`: If an argument cannot be used, or if no task can be evaluated; the message says why.
            If methods are missing because of a full disk or a clip that cannot be used, after the results of the
            others are written.
    """
    failures: dict[str, Exception] = {}
    earlier = read_results(args.compare) if args.compare else []
    if any(result.get("folds") != args.folds for result in earlier):
        raise UserError(
            f"--compare {args.compare} was measured in another way: pass the same --folds, or none if it was "
            "measured on the test clips."
        )
    output_dir = Path(args.output_dir)
    # The classifiers of a task, one for each method, are all trained on the same clips.
    with logging_redirect_tqdm(), quiet_libraries(warnings=True), each_message_once(train.logger):
        methods = list_methods(args.checkpoints, args.modes, args.seeds)
        tasks = load_tasks(methods, args, failures)
        output_dir.mkdir(parents=True, exist_ok=True)
        if known := [result for task in tasks for result in task.results(methods)]:
            print(f"Before this run: {format_report(collect_rows(known, earlier, args), format_caption(args))[0]}")
        for task in tqdm(tasks, desc="Tasks"):
            with record_failure(task.folder.name, failures):
                evaluate_methods(task, args, failures)
            for result in task.results(methods):
                tqdm.write(describe_result(result))
    results = [result for task in tasks for result in task.results(methods)]
    if not results:
        raise next(iter(failures.values()))
    rows = collect_rows(results, earlier, args)
    text, tables = format_report(rows, format_caption(args), failures)
    print(text)
    write_results(output_dir, results, rows, text, tables)
    for name, error in failures.items():
        message = f"{name} is missing from the tables: {error}"
        if isinstance(error, BadClipError):
            raise BadClipError(message, error.kind) from error
        if is_disk_full(error):
            raise DiskFullError(message) from error
    return tables


def collect_rows(
    results: list[dict[str, Any]], earlier: list[dict[str, Any]], args: BenchmarkArguments
) -> pd.DataFrame:
    """Returns the rows of the tables: those of this run, the paper's, and those of the run to compare with."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    rows = [summarise(results), paper_rows(tasks, args.modes)]
    if args.compare:
        rows.append(earlier_rows(earlier, results, run=Path(args.compare).resolve().parent.name))
    rows = pd.concat([part for part in rows if not part.empty], ignore_index=True)
    return rows.astype({"seeds": "Int64"})  # of which those of the paper are unknown


def format_caption(args: BenchmarkArguments) -> str:
    """Says what the values in the tables are."""
    caption = "Accuracy in %"
    if args.folds:
        caption += f" over {args.folds} folds of the training clips"
    if args.seeds > 1:
        caption += ", mean ± standard deviation over seeds"
    return caption + "."
