"""
The table of labelled data sets by methods: how good are the vectors of these checkpoints?

    python run_scripts/run_benchmark.py --checkpoints cola-mine --tasks_dir path/to/tasks --output_dir results

Each folder in `--tasks_dir` is a task: Parquet or audio files with the splits `train` and `test` and a label. One that
is called like a task of the paper (`nsynth`) may hold that data in its publisher's layout; the paper's figures then
stand beside. `--modes` are the columns:

    log-mel       log-mel statistics
    random        the checkpoint's encoder with random weights, frozen
    supervised    random weights, trained along, for `--epochs`
    frozen        the checkpoint's encoder as it is
    fine-tuned    the checkpoint's encoder, trained along, for `--epochs`

There are three tables. The first is of classifiers as the paper trains them, by run_classification.py (Adam, random
windows of 0.96 s, logits averaged over a test clip); in the modes `random` and `frozen` that is a linear layer alone.
The others are of the vectors of whole clips, standardised: logistic regression on them, and nearest neighbours.

Each cell is written to a file of its own when it is measured. The same command goes on where it was stopped, and after
a change measures again only what the change concerns.
"""

import csv
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import HfArgumentParser

from feature_extraction import COLAFeatureExtractor, find_audio_column
from run_scripts import run_classification
from run_scripts.common.cpu import tune_cpu
from run_scripts.common.plots import plot_accuracy_bars
from run_scripts.evaluation.embedders import (
    LOG_MEL,
    Embedder,
    embed_clips,
    encoder_embedder,
    load_encoder,
    log_mel_statistics,
    name_kind,
)
from run_scripts.evaluation.embedding_cache import data_key, encoder_key
from run_scripts.evaluation.labels import load_labelled
from run_scripts.evaluation.probes import NEIGHBOURS, knn_evaluation, linear_evaluation, split_folds
from run_scripts.paper_tasks import TASKS


logger = logging.getLogger(__name__)

MODES = ("log-mel", "random", "supervised", "frozen", "fine-tuned")  # in the order of the columns
TRAINED = ("supervised", "fine-tuned")
FROZEN_EPOCHS = 100  # of a linear layer, which take seconds
# What is measured of a method, and what the tables are called.
FIGURES = {
    "accuracy": "Trained as in the paper, on random windows",
    "logistic": "Logistic regression on the vectors of whole clips",
    "knn": f"The same vectors by their {NEIGHBOURS} nearest neighbours",
}
VERSION = 2  # goes up when the same settings give other figures


@dataclass
class BenchmarkArguments:
    tasks_dir: str = field(metadata={"help": "A folder with one folder for each task."})
    output_dir: str = field(metadata={"help": "Where the cells, the table and the chart go."})
    checkpoints: list[str] = field(default_factory=list, metadata={"help": "Folders or Hub names of checkpoints."})
    tasks: list[str] | None = field(default=None, metadata={"help": "Names of tasks. Defaults to all in tasks_dir."})
    modes: list[str] = field(
        default_factory=lambda: ["log-mel", "random", "frozen"], metadata={"help": f"Some of {', '.join(MODES)}."}
    )
    seeds: int = field(default=1, metadata={"help": "Seeds of random weights and of training to average over."})
    epochs: int = field(default=20, metadata={"help": "Epochs of the modes supervised and fine-tuned; paper: 100."})
    folds: int | None = field(
        default=None,
        metadata={
            "help": "To choose by: so many folds of the training clips, a `group` in one of them. Reads no test clip."
        },
    )
    compare: str | None = field(
        default=None, metadata={"help": "The results.json of another run, whose columns to show beside."}
    )

    def __post_init__(self) -> None:
        if unknown := set(self.modes) - set(MODES):
            raise ValueError(f"--modes must be some of {', '.join(MODES)}, got {', '.join(sorted(unknown))}.")
        for name in ("seeds", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if self.folds is not None and (self.folds < 2 or set(TRAINED) & set(self.modes)):
            raise ValueError(
                f"--folds must be at least 2, and measures vectors only: leave {' and '.join(TRAINED)} out of --modes."
            )
        if self.compare and not Path(self.compare).is_file():
            raise FileNotFoundError(f"--compare {self.compare}: there is no such file. Name a run's results.json.")


def find_tasks(tasks_dir: str, names: list[str] | None) -> list[Path]:
    """
    Raises:
        `FileNotFoundError`: if there is no such folder or task.
    """
    folders = sorted(path for path in Path(tasks_dir).expanduser().glob("*") if path.is_dir())
    if not folders:
        raise FileNotFoundError(f"{tasks_dir} holds no folders: each task is a folder with train and test clips.")
    missing = set(names or []) - {folder.name for folder in folders}
    if missing:
        found = ", ".join(folder.name for folder in folders)
        raise FileNotFoundError(f"No task {', '.join(sorted(missing))} in {tasks_dir}; there are {found}.")
    return [folder for folder in folders if names is None or folder.name in names]


def is_papers(folder: Path) -> bool:
    """Whether the folder is called like a task of the paper and holds its data as published, not shards of our own."""
    return folder.name in TASKS and not any(folder.rglob("*.parquet"))


def load_task(folder: Path) -> DatasetDict:
    return TASKS[folder.name].load(folder) if is_papers(folder) else load_labelled(str(folder))


def format_table(table: dict[str, dict[str, float]], deviations: dict[str, dict[str, float]] | None = None) -> str:
    """
    A Markdown table: tasks are rows, methods columns, and the last row of several the mean.

    Figures that are missing or NaN are dashes, and a method that lacks one has no mean. `deviations` are standard
    deviations, missing or NaN where there is none.
    """
    methods = list(dict.fromkeys(method for row in table.values() for method in row))

    def cell(task: str, method: str, value: float) -> str:
        deviation = (deviations or {}).get(task, {}).get(method, np.nan)
        return "–" if np.isnan(value) else f"{value:.1f}" + ("" if np.isnan(deviation) else f" ± {deviation:.1f}")

    rows = {task: {method: row.get(method, np.nan) for method in methods} for task, row in table.items()}
    if len(rows) > 1:
        rows["mean"] = {method: float(np.mean([row[method] for row in rows.values()])) for method in methods}
    lines = ["| task | " + " | ".join(methods) + " |", "| --- |" + " ---: |" * len(methods)]
    for task, row in rows.items():
        lines.append(f"| {task} | " + " | ".join(cell(task, method, row[method]) for method in methods) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Method:
    """A column of the table, of one seed. `encoder` is a hash of the weights that it starts from."""

    name: str
    mode: str
    seed: int
    checkpoint: str | None = None
    encoder: str = LOG_MEL

    @property
    def is_random(self) -> bool:
        return self.mode in ("random", "supervised")

    def embedder(self) -> Embedder:
        if self.checkpoint is None:
            return log_mel_statistics(COLAFeatureExtractor())
        model, extractor = load_encoder(self.checkpoint, self.seed if self.is_random else None)
        return encoder_embedder(model.to("cuda" if torch.cuda.is_available() else "cpu"), extractor)


def list_methods(checkpoints: list[str], modes: list[str], num_seeds: int) -> list[Method]:
    """
    Each method of each seed, in the order of the columns.

    Raises:
        `ValueError`: if there is none, or two checkpoints have one name.
    """
    names = [Path(checkpoint).name for checkpoint in checkpoints]
    if len(set(names)) < len(names):
        raise ValueError(f"--checkpoints of one name cannot be told apart in the table: {', '.join(names)}.")
    methods: dict[tuple[str, int], Method] = {}
    for mode in (mode for mode in MODES if mode in modes):
        if mode == "log-mel":
            methods[LOG_MEL, 0] = Method(LOG_MEL, mode, 0)
            continue
        for checkpoint, name in zip(checkpoints, names):
            for seed in range(num_seeds):
                method = Method(name, mode, seed, checkpoint)
                kind = name_kind(checkpoint) if method.is_random else name
                if (f"{kind}, {mode}", seed) in methods:
                    continue  # random weights do not depend on the checkpoint
                encoder = encoder_key(*load_encoder(checkpoint, seed if method.is_random else None))
                methods[f"{kind}, {mode}", seed] = Method(f"{kind}, {mode}", mode, seed, checkpoint, encoder)
    if not methods:
        raise ValueError(f"The --modes {', '.join(modes)} need checkpoints: pass --checkpoints.")
    return list(methods.values())


class Cells:
    """
    What is measured of a task: one file for each method and seed, named by a hash of all that the figure depends on.

    Args:
        folder (`Path`):
            Where they are.
        splits (`DatasetDict`):
            The data.
        epochs (`int`):
            Of the methods that are trained.
        folds (`int`, *optional*):
            If it is the training clips that are measured on.
    """

    def __init__(self, folder: Path, splits: DatasetDict, epochs: int, folds: int | None = None):
        self.folder = folder
        self.sizes = {f"num_{name}": len(split) for name, split in splits.items()}
        self.clips = [data_key(split, find_audio_column(split)) for split in splits.values()]
        self.epochs, self.folds = epochs, folds

    def path(self, method: Method) -> Path:
        settings = [VERSION, method.mode, method.encoder, self.clips, method.seed]
        settings += [self.epochs] if method.mode in TRAINED else []
        settings += [self.folds] if self.folds else []
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        return self.folder / f"{method.mode}-seed{method.seed}-{key}.json"

    def read(self, method: Method) -> dict[str, Any] | None:
        try:
            cell = json.loads(self.path(method).read_text())
        except (OSError, ValueError):
            return None
        return cell | {"method": method.name}  # the same weights may have another name now

    def write(self, method: Method, figures: dict[str, float]) -> None:
        path = self.path(method)
        cell = {"task": self.folder.name, "method": method.name, "mode": method.mode, "seed": method.seed}
        cell |= dict.fromkeys(FIGURES) | {name: round(value, 4) for name, value in figures.items()}
        cell |= self.sizes | {"epochs": self.epochs if method.mode in TRAINED else None, "key": path.stem[-16:]}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(cell, indent=2))
        os.replace(temporary, path)


def measure_training(method: Method, folder: Path, epochs: int, cache_dir: Path) -> dict[str, float]:
    """Test accuracy in % of the classifier that run_classification.py trains, and the seconds that it took."""
    data = ["--task", folder.name, "--data_dir", str(folder)] if is_papers(folder) else ["--dataset_name", str(folder)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as output_dir:
        results = run_classification.main(
            [
                *(*data, "--output_dir", output_dir, "--model_name_or_path", method.checkpoint),
                *("--mode", method.mode, "--seed", str(method.seed), "--embedding_cache", str(cache_dir)),
                *("--num_train_epochs", str(epochs), "--save_only_model", "True", "--disable_tqdm", "True"),
            ]
        )
    return {"accuracy": 100 * results["accuracy"], "seconds": time.perf_counter() - started}


def measure_vectors(
    methods: list[Method], splits: DatasetDict, name: str, folds: int | None = None
) -> dict[Method, dict[str, float]]:
    """
    Accuracy in % of logistic regression and of nearest neighbours on each method's vectors, on the test clips or over
    the folds of the training clips, and the seconds that embedding and fitting took.
    """
    first = {method.encoder: method for method in reversed(methods)}  # the vectors of one encoder are the same
    embedders = {f"{method.name}, seed {method.seed}": method.embedder() for method in first.values()}
    embedded = {split: embed_clips(embedders, clips, name) for split, clips in splits.items()}
    labels = {split: np.array(clips["label"]) for split, clips in splits.items()}
    measured = {}
    for encoder, column in zip(first, embedders):
        started = time.perf_counter()
        vectors = {split: vectors[column] for split, (vectors, _) in embedded.items()}
        if folds is None:
            trials = [(vectors["train"], labels["train"], vectors["test"], labels["test"])]
        else:
            x, y = vectors["train"], labels["train"]
            trials = [(x[fit], y[fit], x[held], y[held]) for fit, held in split_folds(splits["train"], folds)]
        sizes = [len(trial[-1]) for trial in trials]
        figures = {
            figure: float(np.average([evaluate(*trial) for trial in trials], weights=sizes))
            for figure, evaluate in (("logistic", linear_evaluation), ("knn", knn_evaluation))
        }
        seconds = time.perf_counter() - started + sum(seconds[column] for _, seconds in embedded.values())
        measured[encoder] = figures | {"seconds": seconds}
    return {method: measured[method.encoder] for method in methods}


def summarise(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each task and method: means and standard deviations over the seeds, and the seconds of one."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["method"]), []).append(cell)
    rows = []
    for (task, method), group in groups.items():
        row = {"task": task, "method": method, "mode": group[0]["mode"], "seeds": len(group)}
        for name in FIGURES:
            values = [cell[name] for cell in group if cell[name] is not None]
            row[name] = float(np.mean(values)) if values else None
            # Where a figure does not depend on the seed its deviation would be of nothing.
            row[f"{name}_std"] = float(np.std(values, ddof=1)) if len(set(values)) > 1 else None
        rows.append(row | {"seconds": float(np.mean([cell["seconds"] for cell in group]))})
    return rows


def papers_rows(tasks: list[str], modes: list[str]) -> list[dict[str, Any]]:
    """The paper's figures of the tasks that are its."""
    return [
        {
            "task": task,
            "method": f"paper, {mode}",
            "mode": mode,
            "accuracy": getattr(TASKS[task], mode.replace("-", "_")),
        }
        for mode in MODES
        if mode in modes and mode != "log-mel"
        for task in tasks
        if task in TASKS
    ]


def read_earlier(path: str, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    The rows of another run's results.json, of the same tasks, without the methods that were measured here too.

    Raises:
        `ValueError`: if the file is none of this job's.
    """
    try:
        earlier = json.loads(Path(path).read_text())
        tasks = {cell["task"] for cell in cells}
        rows = summarise([cell for cell in earlier if cell["task"] in tasks])
        same = {cell["key"] for cell in cells}
        others = {cell["method"] for cell in earlier if cell["key"] not in same}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--compare {path} is not the results.json of a run of this job ({error!r}).") from error
    run = Path(path).resolve().parent.name
    return [row | {"method": f"{row['method']} ({run})"} for row in rows if row["method"] in others]


def to_table(rows: list[dict[str, Any]], figure: str) -> dict[str, dict[str, float]]:
    """`table[task][method]`, NaN where there is no figure."""
    methods = list(dict.fromkeys(row["method"] for row in rows if row.get(figure) is not None))
    table = {row["task"]: dict.fromkeys(methods, np.nan) for row in rows}
    for row in rows:
        if row.get(figure) is not None:
            table[row["task"]][row["method"]] = row[figure]
    return table


def write_results(
    args: BenchmarkArguments, cells: list[dict[str, Any]], failures: dict[str, Exception]
) -> dict[str, dict[str, dict[str, float]]]:
    """Writes the tables in all their forms, prints them, and returns them: `tables[figure][task][method]`."""
    output_dir = Path(args.output_dir)
    rows = summarise(cells)
    # Columns in the order of the modes, whatever was measured first.
    rows.sort(key=lambda row: MODES.index(row["mode"]))
    papers = papers_rows(list(dict.fromkeys(row["task"] for row in rows)), args.modes)
    shown = rows + papers + (read_earlier(args.compare, cells) if args.compare else [])
    tables = {figure: table for figure in FIGURES if any((table := to_table(shown, figure)).values())}

    text = (
        "Accuracy in %"
        + (f" over {args.folds} folds of the training clips" if args.folds else "")
        + (", mean ± standard deviation over seeds" if args.seeds > 1 else "")
        + ".\n"
    )
    for figure, table in tables.items():
        text += f"\n{FIGURES[figure]}:\n\n{format_table(table, to_table(shown, f'{figure}_std'))}\n"
    if failures:
        text += "\nNot measured:\n\n" + "".join(f"- {name}: {error}\n" for name, error in failures.items())
    (output_dir / "results.md").write_text(text)
    (output_dir / "results.json").write_text(json.dumps(cells, indent=2))
    with open(output_dir / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(shown)
    for figure, table in tables.items():
        plot_accuracy_bars(table, output_dir / f"{figure}.png", title=FIGURES[figure])
    print(text)
    return tables


def main(argv: list[str] | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """
    Runs the job and returns its tables: accuracy in % by figure (`accuracy`, `logistic`, `knn`), task and method.

    What cannot be measured is told of and left out, unless it is everything.

    Raises:
        `ValueError`, `OSError`: if an argument, or all the data, will not do; the message says which.
    """
    (args,) = HfArgumentParser(BenchmarkArguments).parse_args_into_dataclasses(argv)
    tune_cpu()
    folders = find_tasks(args.tasks_dir, args.tasks)
    methods = list_methods(args.checkpoints, args.modes, args.seeds)
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    if args.compare:
        read_earlier(args.compare, [])  # what is wrong with it should be said now, and not after hours
    measured, failures = [], {}

    def attempt(what: str, run: Callable[..., None], *arguments: Any) -> bool:
        try:
            run(*arguments)
        except (ValueError, OSError, RuntimeError) as error:
            logger.warning(f"{what} is left out: {error}")
            failures[what] = error
            return False
        return True

    def measure(folder: Path) -> None:
        splits = load_task(folder)
        if args.folds:
            splits = DatasetDict(train=splits["train"])
        cells = Cells(output_dir / "cells" / folder.name, splits, args.epochs, args.folds)
        missing = [method for method in methods if cells.read(method) is None]
        figures: dict[Method, dict[str, float]] = {method: {"seconds": 0.0} for method in missing}

        def embed(embedded: list[Method]) -> None:
            for method, measured in measure_vectors(embedded, splits, folder.name, args.folds).items():
                figures[method] |= measured

        def train(method: Method) -> None:
            epochs = args.epochs if method.mode in TRAINED else FROZEN_EPOCHS
            measured = measure_training(method, folder, epochs, output_dir / "embeddings")
            measured["seconds"] += figures[method]["seconds"]
            figures[method] |= measured

        embedded = [method for method in missing if method.mode not in TRAINED]
        if embedded and not attempt(folder.name, embed, embedded):
            missing = [method for method in missing if method.mode in TRAINED]
        for method in missing:
            what = f"{folder.name}: {method.name}, seed {method.seed}"
            if method.checkpoint is None or args.folds or attempt(what, train, method):
                cells.write(method, figures[method])
        found = [cell for method in methods if (cell := cells.read(method)) is not None]
        measured.extend(found)
        for cell in found:
            told = ", ".join(f"{figure} {cell[figure]:.1f}" for figure in FIGURES if cell[figure] is not None)
            tqdm.write(f"{folder.name}: {cell['method']}, seed {cell['seed']}: {told} ({cell['seconds']:.0f} s)")

    with logging_redirect_tqdm():
        for folder in tqdm(folders, desc="Tasks"):
            attempt(folder.name, measure, folder)
    if not measured:
        raise next(iter(failures.values()))
    return write_results(args, measured, failures)


if __name__ == "__main__":
    main()
