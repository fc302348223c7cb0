"""
Writes the tables of model_card.md and of the checkpoints' cards from results of the benchmark.

    python -m tools.write_tables outputs/benchmark-frozen outputs/benchmark-trained

Each table stands between the lines `<!-- benchmark: NAME -->` and `<!-- /benchmark -->`; `TABLES` has the names. A
table, a column or a mean of which the results have nothing stays as it is: not all need be measured again at once.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from run_scripts.benchmark.learning_curves import CURVE
from run_scripts.benchmark.methods import name_method
from run_scripts.benchmark.results import read_results
from run_scripts.benchmark.tables import to_markdown
from run_scripts.common.command_line import run_script
from run_scripts.common.errors import UserError
from run_scripts.embedding.embedders import LOG_MEL


ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(<!-- benchmark: (.+?) -->\n)(.*?)(<!-- /benchmark -->)", re.DOTALL)
# The tasks that are left out of a second mean: many settings were chosen on the others before these were added.
ADDED_LATER = ("digits_gujarati", "emotion_emodb")
MISSING = "–"
CLASSIFIERS = {"linear layer": "accuracy", "logistic": "logistic", "neighbours": "knn"}
MODES = {
    "random, frozen": "random",
    "from scratch": "supervised",
    "pre-trained, frozen": "frozen",
    "pre-trained, fine-tuned": "fine-tuned",
}

# What a row or a column of a table selects: the `tasks` to average over, a `method` or a `metric`.
Selections = dict[str, dict[str, Any]]


class Results:
    """
    The results of one or more runs of the benchmark.

    Args:
        results (`list[dict[str, Any]]`):
            What their `results.json` hold.
    """

    def __init__(self, results: list[dict[str, Any]]):
        self.values = pd.DataFrame(results).drop_duplicates(["task", "method", "seed"], keep="last")
        self.tasks = sorted(self.values["task"].unique())
        learnt = self.values[self.values["mode"].isin(["frozen", "fine-tuned"])]["method"]
        self.checkpoints = list(dict.fromkeys(learnt.str.rpartition(", ")[0]))

    def format(self, tasks: list[str], method: str, metric: str) -> str:
        """
        Formats a metric, averaged over tasks: the mean over the seeds and, if they differ, the standard deviation. It
        is a dash if a task has no such result.
        """
        chosen = self.values[(self.values["method"] == method) & self.values["task"].isin(tasks)]
        if metric not in chosen or chosen.empty:
            return MISSING
        by_task = chosen.pivot(index="seed", columns="task", values=metric).reindex(columns=tasks).astype(float)
        means = by_task.mean(axis=1, skipna=False)
        if means.isna().any():
            return MISSING
        return f"{means.mean():.1f}" + (f" ± {means.std():.1f}" if means.round(9).nunique() > 1 else "")

    def table(self, corner: str, rows: Selections, columns: Selections) -> pd.DataFrame:
        """The texts of a table. Columns without values are left out."""
        texts = pd.DataFrame(
            {
                title: [self.format(**({"tasks": self.tasks} | row | column)) for row in rows.values()]
                for title, column in columns.items()
            },
            index=pd.Index(rows, name=corner),
        )
        return texts.loc[:, (texts != MISSING).any()]

    def means(self) -> dict[str, list[str]]:
        """The tasks of each mean: all of them, and, if there are any, those that were not added later."""
        earlier = [task for task in self.tasks if task not in ADDED_LATER]
        return {f"{len(tasks)} tasks": tasks for tasks in (self.tasks, earlier) if tasks}

    def rows_of_tasks(self) -> Selections:
        """A row for each task and for each mean."""
        means = {f"mean of {title}": tasks for title, tasks in self.means().items()}
        return {title: {"tasks": tasks} for title, tasks in ({task: [task] for task in self.tasks} | means).items()}

    def frozen_methods(self, *checkpoints: str) -> Selections:
        """Log-mel statistics, and the random and the pre-trained weights of each checkpoint, frozen."""
        methods = {LOG_MEL: {"method": LOG_MEL}}
        for checkpoint in checkpoints or self.checkpoints:
            for title, mode in ((f"{checkpoint}, random weights", "random"), (checkpoint, "frozen")):
                methods[title] = {"method": name_method(checkpoint, mode)}
        return methods


def frozen(results: Results) -> pd.DataFrame:
    """Logistic regression on each task."""
    methods = {title: method | {"metric": "logistic"} for title, method in results.frozen_methods().items()}
    return results.table("task", results.rows_of_tasks(), methods)


def classifiers(results: Results) -> pd.DataFrame:
    """All classifiers of embeddings, as means over the tasks, with few labelled clips too."""
    rows = {
        **{f"linear layer, {title}": {"metric": "accuracy", "tasks": t} for title, t in results.means().items()},
        "five nearest neighbours": {"metric": "knn"},
        **{f"logistic regression, {count} clips of each class": {"metric": name} for name, count in CURVE.items()},
        "logistic regression, all clips": {"metric": "logistic"},
    }
    return results.table("mean over the tasks", rows, results.frozen_methods())


def modes(results: Results, *checkpoint: str) -> pd.DataFrame:
    """The four modes of the paper: of one checkpoint on each task, or of all of them as means over the tasks."""
    if checkpoint:
        columns = {title: {"method": name_method(*checkpoint, mode)} for title, mode in MODES.items()}
        columns = {title: column | {"metric": "accuracy"} for title, column in columns.items()}
        return results.table("task", results.rows_of_tasks(), columns)
    lines = {
        f"{name}, {title}": [results.format(tasks, name_method(name, mode), "accuracy") for mode in MODES.values()]
        for title, tasks in results.means().items()
        for name in results.checkpoints
    }
    return pd.DataFrame.from_dict(lines, orient="index", columns=list(MODES)).rename_axis("mean over the tasks")


def card(results: Results, checkpoint: str) -> pd.DataFrame:
    """All classifiers of a checkpoint's embeddings on each task."""
    columns = {
        f"{classifier}: {'random weights' if title.endswith('random weights') else title}": {"metric": metric} | method
        for classifier, metric in CLASSIFIERS.items()
        for title, method in results.frozen_methods(checkpoint).items()
    }
    return results.table("task", results.rows_of_tasks(), columns)


def curves(results: Results, *checkpoints: str) -> pd.DataFrame:
    """Logistic regression with few labelled clips of each class, as means over the tasks."""
    columns = {str(count): {"metric": name} for name, count in CURVE.items()} | {"all": {"metric": "logistic"}}
    return results.table("clips of each class", results.frozen_methods(*checkpoints), columns)


TABLES: dict[str, Callable[..., pd.DataFrame]] = {
    "frozen": frozen,
    "classifiers": classifiers,
    "modes": modes,
    "card": card,
    "curves": curves,
}


def read_table(markdown: str) -> pd.DataFrame:
    """Reads what `to_markdown` wrote."""
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    if not lines:
        return pd.DataFrame()
    (corner, *columns), _, *rows = lines
    return pd.DataFrame([row[1:] for row in rows], [row[0] for row in rows], columns).rename_axis(corner)


def fill(text: str, results: Results) -> str:
    """
    Writes the tables into a text in Markdown.

    Raises:
        `ValueError`: If a table has a name that is none of `TABLES`, or means over other tasks than those of the
            results.
    """

    def write(match: re.Match) -> str:
        start, name, old, end = match.groups()
        kind, *checkpoints = name.split()
        if kind not in TABLES:
            raise UserError(f"There is no table {kind!r}; there are {', '.join(TABLES)}.")
        if not set(checkpoints) <= set(results.checkpoints):
            return match[0]
        before = read_table(old)
        after = TABLES[kind](results, *checkpoints).replace(MISSING, None).dropna(how="all")
        if after.empty:
            return match[0]
        is_of_tasks, differing = after.index.name == "task", set(before.index) ^ set(after.index)
        if is_of_tasks and len(before) and differing:
            raise UserError(
                f"The table {name!r} and the results differ in the rows {', '.join(sorted(differing))}: measure all "
                "tasks of the table, or empty it."
            )
        rows, columns = (list(dict.fromkeys([*old, *new])) for old, new in zip(before.axes, after.axes))
        # A column of tasks is replaced as a whole, so that its mean is never older than one of its tasks.
        kept = before.drop(columns=after.columns, errors="ignore") if is_of_tasks else before
        table = after.combine_first(kept).loc[rows, columns].fillna(MISSING).rename_axis(after.index.name)
        return f"{start}\n{to_markdown(table)}\n\n{end}"

    return TABLE.sub(write, text)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="The output folders of run_benchmark.py.")
    args = parser.parse_args(argv)
    results = Results([result for folder in args.results for result in read_results(folder / "results.json")])
    if "folds" in results.values and results.values["folds"].notna().any():
        raise UserError("Some results are of --folds of the training clips: the tables are of the test clips.")
    for path in [ROOT / "model_card.md", *sorted((ROOT / "modeling_cola").glob("cola-*/README.md"))]:
        text = path.read_text(encoding="utf-8")
        path.write_text(fill(text, results), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
