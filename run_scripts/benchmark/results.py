"""The results of the benchmark: one file for each cell, and the tables and plots that are made of them."""

import csv
import hashlib
import io
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict

from feature_extraction import find_audio_column
from run_scripts.benchmark.arguments import MODES, BenchmarkArguments
from run_scripts.benchmark.learning_curves import CURVE, build_curves, format_curves
from run_scripts.benchmark.methods import Method
from run_scripts.benchmark.probes import NEIGHBOURS
from run_scripts.classification.paper_tasks import TASKS
from run_scripts.common.errors import UserError
from run_scripts.common.files import write_json, write_text
from run_scripts.common.plots import plot_accuracy_bars, plot_learning_curves
from run_scripts.embedding.cache import hash_clips


logger = logging.getLogger(__name__)

# The metrics of a method, all of them accuracies in %, and the titles of their tables.
METRICS = {
    "accuracy": "Classifiers trained as in the paper, on random windows",
    "logistic": "Logistic regression on embeddings of whole clips",
    "knn": f"Vote of the {NEIGHBOURS} nearest neighbours, on the same embeddings",
}
CURVE_TITLE = "Logistic regression with few labelled clips, mean over the tasks"
VERSION = 3  # Increase it when the same settings give other metrics than before.

# `table[task][method]` is an accuracy in %, and `tables[metric]` is a table.
Table = dict[str, dict[str, float]]
Tables = dict[str, Table]


class Cells:
    """
    The results of one task. Each method with each seed has a file, named by a hash of all that its metrics depend on.

    Args:
        folder (`Path`):
            The folder of the files. Its name is that of the task.
        splits (`DatasetDict`):
            The task's clips.
        args ([`BenchmarkArguments`]):
            The benchmark's arguments.
    """

    def __init__(self, folder: Path, splits: DatasetDict, args: BenchmarkArguments):
        self.folder, self.splits, self.args = folder, splits, args
        self.clip_hashes = [hash_clips(split, find_audio_column(split)) for split in splits.values()]

    def path(self, method: Method) -> Path:
        """Returns the file of a method."""
        settings = [VERSION, method.mode, method.encoder_hash, self.clip_hashes, method.seed]
        settings += [training] if (training := self.args.training(method.mode)) else []
        settings += [self.args.folds] if self.args.folds else []
        settings += ["skip_bad_clips"] if self.args.skip_bad_clips else []
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        return self.folder / f"{method.mode}-seed{method.seed}-{key}.json"

    def read(self, method: Method) -> dict[str, Any] | None:
        """Reads the results of a method; `None` if there are none, or if their file is damaged."""
        try:
            cell = json.loads(self.path(method).read_text())
        except (OSError, ValueError):
            return None
        return cell | {"method": method.name}  # The checkpoint may have been renamed since.

    def write(self, method: Method, metrics: dict[str, float]) -> None:
        """
        Writes the metrics of a method, and the seconds that they took.

        Raises:
            `OSError`: If they cannot be written. If the disk is full, the message says how much room is missing.
        """
        path = self.path(method)
        cell = {"task": self.folder.name, "method": method.name, "mode": method.mode, "seed": method.seed}
        cell |= dict.fromkeys(METRICS) | {name: round(value, 4) for name, value in metrics.items()}
        cell |= {f"num_{name}": len(split) for name, split in self.splits.items()}
        cell |= {"training": self.args.training(method.mode), "key": path.stem[-16:]}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, cell)


def summarise(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Summarises cells over seeds.

    Returns:
        `list[dict[str, Any]]`: A row for each task and method, in the order of the columns, with the mean and the
        standard deviation of each metric over the seeds, and the mean of the seconds.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["method"]), []).append(cell)
    rows = []
    for (task, method), group in groups.items():
        row = {"task": task, "method": method, "mode": group[0]["mode"], "seeds": len(group)}
        for metric in (*METRICS, *CURVE):
            values = [cell[metric] for cell in group if cell.get(metric) is not None]
            row[metric] = float(np.mean(values)) if values else None
            # Values that are all the same do not depend on the seed, and a deviation of 0 would mislead.
            row[f"{metric}_std"] = float(np.std(values, ddof=1)) if len(set(values)) > 1 else None
        rows.append(row | {"seconds": float(np.mean([cell["seconds"] for cell in group]))})
    return sorted(rows, key=lambda row: MODES.index(row["mode"]))


def paper_rows(tasks: list[str], modes: list[str]) -> list[dict[str, Any]]:
    """Returns rows with the accuracies that the paper reports in the given modes, for those tasks that it has."""
    rows = []
    for name in tasks:
        if name in TASKS:
            task = TASKS[name]
            reported = {
                "random": task.random,
                "supervised": task.supervised,
                "frozen": task.frozen,
                "fine-tuned": task.fine_tuned,
            }
            rows += [
                {"task": name, "method": f"paper, {mode}", "mode": mode, "accuracy": accuracy}
                for mode, accuracy in reported.items()
                if mode in modes
            ]
    return sorted(rows, key=lambda row: MODES.index(row["mode"]))


def read_cells(path: str | Path) -> list[dict[str, Any]]:
    """
    Reads the cells of another run from its `results.json`.

    Raises:
        `ValueError`: If the file is not the `results.json` of a benchmark.
    """
    keys = {"task", "method", "mode", "seconds", "key", *METRICS}
    try:
        cells = json.loads(Path(path).read_text())
        is_valid = all(keys <= cell.keys() for cell in cells)
    except (ValueError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise UserError(f"--compare {path} is not the results.json of a benchmark: name that of another run.")
    return cells


def earlier_rows(earlier: list[dict[str, Any]], cells: list[dict[str, Any]], run: str) -> list[dict[str, Any]]:
    """
    Returns the rows of another run that belong beside the cells of this run.

    These are the rows of the same tasks, without methods whose results are among the cells of this run.

    Args:
        earlier (`list[dict[str, Any]]`):
            The cells of the other run.
        cells (`list[dict[str, Any]]`):
            The cells of this run.
        run (`str`):
            The name of the other run, which is added to the names of its methods.
    """
    tasks, keys = {cell["task"] for cell in cells}, {cell["key"] for cell in cells}
    others = {cell["method"] for cell in earlier if cell["key"] not in keys}
    rows = summarise([cell for cell in earlier if cell["task"] in tasks])
    return [row | {"method": f"{row['method']} ({run})"} for row in rows if row["method"] in others]


def build_table(rows: list[dict[str, Any]], metric: str) -> Table:
    """Arranges one metric of all rows as `table[task][method]`, with NaN where a task lacks a method."""
    methods = list(dict.fromkeys(row["method"] for row in rows if row.get(metric) is not None))
    table = {row["task"]: dict.fromkeys(methods, np.nan) for row in rows}
    for row in rows:
        if row.get(metric) is not None:
            table[row["task"]][row["method"]] = row[metric]
    return table


def format_table(table: Table, deviations: Table | None = None) -> str:
    """
    Formats a table in Markdown, with a row for each task and a column for each method.

    If there are several tasks, the last row is the mean over them, for methods that have a value for each task.
    Missing values are dashes.

    Args:
        table (`dict[str, dict[str, float]]`):
            `table[task][method]` is an accuracy in %, missing or NaN where there is none.
        deviations (`dict[str, dict[str, float]]`, *optional*):
            The standard deviations, in the same form.
    """
    methods = list(dict.fromkeys(method for row in table.values() for method in row))
    rows = {task: {method: row.get(method, np.nan) for method in methods} for task, row in table.items()}
    if len(rows) > 1:
        rows["mean"] = {method: float(np.mean([row[method] for row in rows.values()])) for method in methods}
    lines = ["| task | " + " | ".join(methods) + " |", "| --- |" + " ---: |" * len(methods)]
    for task, row in rows.items():
        task_deviations = (deviations or {}).get(task, {})
        values = [_format_value(value, task_deviations.get(method, np.nan)) for method, value in row.items()]
        lines.append(f"| {task} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _format_value(value: float, deviation: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.1f}" if np.isnan(deviation) else f"{value:.1f} ± {deviation:.1f}"


def format_report(
    rows: list[dict[str, Any]], caption: str, failures: dict[str, Exception] | None = None
) -> tuple[str, Tables]:
    """
    Formats the tables of all metrics.

    Args:
        rows (`list[dict[str, Any]]`):
            The rows to show: this run's first, then others to compare them with.
        caption (`str`):
            A sentence that says what the values in the tables are.
        failures (`dict[str, Exception]`, *optional*):
            The tasks and methods that are missing from the tables, and why.

    Returns:
        `tuple[str, dict[str, dict[str, dict[str, float]]]]`: The text in Markdown, and `tables[metric][task][method]`,
        an accuracy in %.
    """
    tables = {metric: table for metric in METRICS if any((table := build_table(rows, metric)).values())}
    text = f"{caption}\n"
    for metric, table in tables.items():
        text += f"\n{METRICS[metric]}:\n\n{format_table(table, build_table(rows, f'{metric}_std'))}\n"
    if curves := build_curves(rows):
        text += f"\n{CURVE_TITLE}:\n\n{format_curves(curves)}\n"
    if failures:
        text += "\nLeft out because of errors:\n\n"
        text += "".join(f"- {name}: {error}\n" for name, error in failures.items())
    return text, tables


def write_results(
    output_dir: Path, cells: list[dict[str, Any]], rows: list[dict[str, Any]], text: str, tables: Tables
) -> None:
    """
    Writes `results.md`, `results.json` and `results.csv`, and plots of the metrics if they can be drawn.

    Args:
        output_dir (`Path`):
            The folder to write to.
        cells (`list[dict[str, Any]]`):
            The cells of this run, which go into `results.json`.
        rows (`list[dict[str, Any]]`):
            The rows of the tables, which go into `results.csv`.
        text (`str`), tables (`dict[str, dict[str, dict[str, float]]]`):
            What [`format_report`] returns.

    Raises:
        `OSError`: If a file other than a chart cannot be written.
    """
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(output_dir / "results.md", text)
    write_text(output_dir / "results.json", json.dumps(cells, indent=2))
    write_text(output_dir / "results.csv", table.getvalue())
    plots = {
        f"{metric}.png": partial(plot_accuracy_bars, accuracies, title=METRICS[metric])
        for metric, accuracies in tables.items()
    }
    if curves := build_curves(rows):
        plots["learning_curves.png"] = partial(plot_learning_curves, curves, title=CURVE_TITLE)
    for name, plot in plots.items():
        try:
            plot(path=output_dir / name)
        except Exception as error:
            logger.warning(f"The plot {name} could not be drawn: {type(error).__name__}: {error}")
