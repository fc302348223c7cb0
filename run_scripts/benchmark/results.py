"""The results of the benchmark: the tables and plots that are made of them."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from run_scripts.benchmark.arguments import MODES
from run_scripts.benchmark.learning_curves import CURVE, build_curves
from run_scripts.benchmark.probes import NEIGHBOURS
from run_scripts.benchmark.tables import build_table, format_table, to_markdown
from run_scripts.classification.paper_tasks import TASKS
from run_scripts.common.errors import UserError
from run_scripts.common.files import write_json, write_text
from run_scripts.common.plots import optional_plot, plot_accuracy_bars, plot_learning_curves


logger = logging.getLogger(__name__)

# The metrics of a method, all of them accuracies in %, and the titles of their tables.
METRICS = {
    "accuracy": "Classifiers trained as in the paper, on random windows",
    "logistic": "Logistic regression on embeddings of whole clips",
    "knn": f"Vote of the {NEIGHBOURS} nearest neighbours, on the same embeddings",
}
CURVE_TITLE = "Logistic regression with few labelled clips, mean over the tasks"
VALUES = [*METRICS, *CURVE]
COLUMNS = [
    "task",
    "method",
    "mode",
    "seeds",
    *(name for value in VALUES for name in (value, f"{value}_std")),
    "seconds",
]

# `tables[metric]` has an accuracy in % for each task (row) and method (column).
Tables = dict[str, pd.DataFrame]


def summarise(results: list[dict[str, Any]]) -> pd.DataFrame:
    """
    Summarises results over seeds: a row for each task and method, in the order of the methods' modes, with the mean
    and the standard deviation of each metric over the seeds, and the mean of the seconds: `COLUMNS`.
    """
    values = pd.DataFrame(results, columns=["task", "method", "mode", "seed", "seconds", *VALUES])
    groups = values.astype(dict.fromkeys(VALUES, float)).groupby(["task", "method"], sort=False)
    rows = groups.agg(mode=("mode", "first"), seeds=("seed", "size"), seconds=("seconds", "mean"))
    rows = rows.join(groups[VALUES].mean()).join(groups[VALUES].agg(_deviation).add_suffix("_std"))
    return _sort_by_mode(rows.reset_index()[COLUMNS])


def _deviation(values: pd.Series) -> float:
    """The standard deviation. Values that are all the same do not depend on the seed, and 0 would mislead."""
    return values.std() if values.nunique() > 1 else float("nan")


def _sort_by_mode(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("mode", key=lambda modes: modes.map(MODES.index), kind="stable", ignore_index=True)


def paper_rows(tasks: list[str], modes: list[str]) -> pd.DataFrame:
    """Returns rows with the accuracies that the paper reports in the given modes, for those tasks that it has."""
    reported = []
    for name in (name for name in tasks if name in TASKS):
        for mode in (mode for mode in modes if mode != "log-mel"):
            accuracy = TASKS[name].accuracies[mode]
            reported.append({"task": name, "method": f"paper, {mode}", "mode": mode, "accuracy": accuracy})
    return _sort_by_mode(pd.DataFrame(reported, columns=COLUMNS))


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Reads the results of another run from its `results.json`. Any other file is a [`UserError`]."""
    keys = {"task", "method", "mode", "seed", "seconds", "key", *METRICS}
    try:
        results = json.loads(Path(path).read_text())
        is_valid = all(keys <= result.keys() for result in results)
    except (ValueError, TypeError, AttributeError):
        is_valid = False
    if not is_valid:
        raise UserError(f"{path} is not the results.json of a benchmark: name that of another run.")
    return results


def earlier_rows(earlier: list[dict[str, Any]], results: list[dict[str, Any]], run: str) -> pd.DataFrame:
    """
    Returns the rows of another run, whose name is added to those of its methods, that belong beside the results of
    this run: those of the same tasks, without methods whose results are among those of this run.
    """
    tasks, keys = {result["task"] for result in results}, {result["key"] for result in results}
    others = {result["method"] for result in earlier if result["key"] not in keys}
    rows = summarise([result for result in earlier if result["task"] in tasks and result["method"] in others])
    return rows.assign(method=rows["method"] + f" ({run})")


def format_report(
    rows: pd.DataFrame, caption: str, failures: dict[str, Exception] | None = None
) -> tuple[str, Tables]:
    """
    Formats the tables of all metrics. The rows to show are this run's first, then others to compare them with; the
    caption is a sentence that says what the values are; `failures` are the tasks and methods that are missing.

    Returns:
        `tuple[str, dict[str, pd.DataFrame]]`: The text in Markdown, and for each metric the accuracy in % of each task
        (row) and method (column).
    """
    tables = {metric: table for metric in METRICS if not (table := build_table(rows, metric)).empty}
    text = f"{caption}\n"
    for metric, table in tables.items():
        text += f"\n{METRICS[metric]}:\n\n{format_table(table, build_table(rows, f'{metric}_std'))}\n"
    if not (curves := build_curves(rows)).empty:
        text += f"\n{CURVE_TITLE}:\n\n{to_markdown(curves.map('{:.1f}'.format))}\n"
    if failures:
        text += "\nLeft out because of errors:\n\n"
        text += "".join(f"- {name}: {error}\n" for name, error in failures.items())
    return text, tables


def write_results(
    output_dir: Path, results: list[dict[str, Any]], rows: pd.DataFrame, text: str, tables: Tables
) -> None:
    """
    Writes the text and the tables of [`format_report`] to `results.md`, the results of this run to `results.json` and
    the rows of the tables to `results.csv`, and draws plots of the metrics if they can be drawn.
    """
    write_text(output_dir / "results.md", text)
    write_json(output_dir / "results.json", results)
    write_text(output_dir / "results.csv", rows.to_csv(index=False))
    plots = {
        f"{metric}.png": partial(plot_accuracy_bars, table.to_dict("index"), title=METRICS[metric])
        for metric, table in tables.items()
    }
    if not (curves := build_curves(rows)).empty:
        plots["learning_curves.png"] = partial(plot_learning_curves, curves.to_dict("index"), title=CURVE_TITLE)
    for name, plot in plots.items():
        with optional_plot(output_dir / name):
            plot(path=output_dir / name)
