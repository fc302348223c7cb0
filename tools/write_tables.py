"""
Writes the tables of model_card.md and of the checkpoints' cards from results of the benchmark.

    python -m tools.write_tables outputs/benchmark-frozen outputs/benchmark-trained

Each table stands between the lines `<!-- benchmark: NAME -->` and `<!-- /benchmark -->`; `TABLES` has the names. A
table of which the results have nothing stays as it is.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from run_scripts.benchmark.arguments import MODE_TITLES
from run_scripts.benchmark.learning_curves import CURVE
from run_scripts.benchmark.results import read_results
from run_scripts.benchmark.tables import to_markdown
from run_scripts.common.command_line import run_script
from run_scripts.common.errors import UserError
from run_scripts.embedding.embedders import LOG_MEL


ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(<!-- benchmark: (.+?) -->\n)(.*?)(<!-- /benchmark -->)", re.DOTALL)
# The tasks that are left out of a second mean: many settings were chosen on the others before these were added.
ADDED_LATER = ("digits_gujarati", "emotion_emodb")
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
            return "–"
        by_task = chosen.pivot(index="seed", columns="task", values=metric).reindex(columns=tasks).astype(float)
        means = by_task.mean(axis=1, skipna=False)
        if means.isna().any():
            return "–"
        return f"{means.mean():.1f}" + (f" ± {means.std():.1f}" if means.round(9).nunique() > 1 else "")

    def table(self, corner: str, rows: Selections, columns: Selections) -> str | None:
        """Formats a table in Markdown. Columns without values are left out; without any, there is no table."""
        texts = pd.DataFrame(
            {
                title: [self.format(**({"tasks": self.tasks} | row | column)) for row in rows.values()]
                for title, column in columns.items()
            },
            index=pd.Index(rows, name=corner),
        )
        texts = texts.loc[:, (texts != "–").any()]
        return None if texts.empty else to_markdown(texts)

    def rows_of_tasks(self) -> Selections:
        """A row for each task, one for their mean, and one for that without the tasks that were added later."""
        rows = {task: {"tasks": [task]} for task in self.tasks} | {"mean": {"tasks": self.tasks}}
        left_out = [task for task in self.tasks if task in ADDED_LATER]
        if left_out:
            others = [task for task in self.tasks if task not in left_out]
            rows[f"mean without {' and '.join(left_out)}"] = {"tasks": others}
        return rows

    def frozen_methods(self, *checkpoints: str) -> Selections:
        """Log-mel statistics, and the random and the pre-trained weights of each checkpoint, frozen."""
        methods = {LOG_MEL: {"method": LOG_MEL}}
        for checkpoint in checkpoints or self.checkpoints:
            for title, mode in ((f"{checkpoint}, random weights", "random"), (checkpoint, "frozen")):
                methods[title] = {"method": name_method(checkpoint, mode)}
        return methods


def name_method(checkpoint: str, mode: str) -> str:
    return f"{checkpoint}, {MODE_TITLES.get(mode, mode)}"


def frozen(results: Results) -> str | None:
    """Logistic regression on each task."""
    methods = {title: method | {"metric": "logistic"} for title, method in results.frozen_methods().items()}
    return results.table("task", results.rows_of_tasks(), methods)


def classifiers(results: Results) -> str | None:
    """All classifiers of embeddings, as means over the tasks, with few labelled clips too."""
    rows = {
        "linear layer, as in the paper": {"metric": "accuracy"},
        "vote of the five nearest neighbours": {"metric": "knn"},
        **{f"logistic regression, {count} clips of each class": {"metric": name} for name, count in CURVE.items()},
        "logistic regression, all clips": {"metric": "logistic"},
    }
    return results.table("mean over the tasks", rows, results.frozen_methods())


def modes(results: Results, *checkpoint: str) -> str | None:
    """The four modes of the paper: of one checkpoint on each task, or of all of them as means over the tasks."""
    if checkpoint:
        columns = {title: {"method": name_method(*checkpoint, mode)} for title, mode in MODES.items()}
        columns = {title: column | {"metric": "accuracy"} for title, column in columns.items()}
        return results.table("task", results.rows_of_tasks(), columns)
    lines = []
    for title, tasks in list(results.rows_of_tasks().items())[len(results.tasks) :]:
        for name in results.checkpoints:
            cells = [results.format(tasks["tasks"], name_method(name, mode), "accuracy") for mode in MODES.values()]
            lines.append([f"{name}, {title}", *cells])
    texts = pd.DataFrame(lines, columns=["mean over the tasks", *MODES]).set_index("mean over the tasks")
    return to_markdown(texts) if (texts != "–").any(axis=None) else None


def card(results: Results, checkpoint: str) -> str | None:
    """All classifiers of a checkpoint's embeddings on each task."""
    columns = {
        f"{classifier}: {'random weights' if title.endswith('random weights') else title}": {"metric": metric} | method
        for classifier, metric in CLASSIFIERS.items()
        for title, method in results.frozen_methods(checkpoint).items()
    }
    return results.table("task", results.rows_of_tasks(), columns)


def curves(results: Results, *checkpoints: str) -> str | None:
    """Logistic regression with few labelled clips of each class, as means over the tasks."""
    columns = {str(count): {"metric": name} for name, count in CURVE.items()} | {"all": {"metric": "logistic"}}
    return results.table("clips of each class", results.frozen_methods(*checkpoints), columns)


TABLES: dict[str, Callable[..., str | None]] = {
    "frozen": frozen,
    "classifiers": classifiers,
    "modes": modes,
    "card": card,
    "curves": curves,
}


def fill(text: str, results: Results) -> str:
    """
    Writes the tables into a text in Markdown.

    Raises:
        `ValueError`: If a table has a name that is none of `TABLES`.
    """

    def write(match: re.Match) -> str:
        start, name, old, end = match.groups()
        kind, *checkpoints = name.split()
        if kind not in TABLES:
            raise UserError(f"There is no table {kind!r}; there are {', '.join(TABLES)}.")
        table = TABLES[kind](results, *checkpoints) if set(checkpoints) <= set(results.checkpoints) else None
        return match[0] if table is None else f"{start}\n{table}\n\n{end}"

    return TABLE.sub(write, text)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="The output folders of run_benchmark.py.")
    args = parser.parse_args(argv)
    results = Results([result for folder in args.results for result in read_results(folder / "results.json")])
    for path in [ROOT / "model_card.md", *sorted((ROOT / "modeling_cola").glob("cola-*/README.md"))]:
        text = path.read_text(encoding="utf-8")
        path.write_text(fill(text, results), encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
