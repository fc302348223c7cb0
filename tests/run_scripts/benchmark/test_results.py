"""The tables of the benchmark."""

import numpy as np
import pandas as pd
import pytest

from run_scripts.benchmark.results import COLUMNS, earlier_rows, paper_rows, summarise
from run_scripts.benchmark.tables import build_table, format_table


def result(task: str, method: str, seed: int = 0, **more: float) -> dict:
    mode = method.split(", ")[-1]
    return {
        "task": task,
        "method": method,
        "mode": mode,
        "seed": seed,
        "seconds": 2.0,
        "key": f"{task}{method}",
    } | more


def test_results_are_summarised_over_seeds():
    results = [result("x", "A, frozen", seed, accuracy=50.0 + seed, logistic=70.0, knn=None) for seed in range(3)]
    results.append(result("x", "A, random", accuracy=40.0, logistic=60.0, knn=30.0))
    rows = summarise(results)
    assert list(rows.columns) == COLUMNS and rows["mode"].tolist() == ["random", "frozen"]  # in the order of the modes
    first, last = rows.iloc[0], rows.iloc[1]
    assert (first["accuracy"], first["seeds"], first["knn"]) == (40.0, 1, 30.0) and np.isnan(first["accuracy_std"])
    assert (last["accuracy"], last["accuracy_std"], last["seeds"], last["seconds"]) == (51.0, 1.0, 3, 2.0)
    assert np.isnan(last["logistic_std"]) and np.isnan(last["knn"])  # the same for each seed, and unknown


def test_rows_of_another_run_are_of_the_same_tasks_and_other_methods():
    here = [result("x", "A, frozen", accuracy=1.0)]
    there = [*here, result("x", "B, frozen", accuracy=2.0), result("y", "B, frozen", accuracy=3.0)]
    rows = earlier_rows(there, here, "before")
    assert rows[["task", "method", "accuracy"]].values.tolist() == [["x", "B, frozen (before)", 2.0]]
    assert earlier_rows(there[2:], here, "before").empty


def test_the_paper_has_rows_for_its_tasks_and_modes():
    rows = paper_rows(["mine", "nsynth"], ["fine-tuned", "log-mel", "random"])
    assert rows[["task", "method", "accuracy"]].values.tolist() == [
        ["nsynth", "paper, random", 20.8],
        ["nsynth", "paper, fine-tuned", 73.0],
    ]


def test_a_table_has_the_tasks_and_methods_in_their_order():
    rows = pd.DataFrame({"task": ["b", "b", "a"], "method": ["Z", "Y", "Z"], "accuracy": [1.0, np.nan, 3.0]})
    table = build_table(rows, "accuracy")
    assert list(table.index) == ["b", "a"] and list(table.columns) == ["Z"]
    assert table["Z"].tolist() == pytest.approx([1, 3])


def test_format_table_has_a_mean_of_several_tasks():
    table = pd.DataFrame({"A": [50.0, 70.0], "B": [60.0, 100.0]}, index=["one", "two"])
    assert format_table(table).splitlines()[-1] == "| mean | 60.0 | 80.0 |"
    assert "mean" not in format_table(table[:1])
    lines = format_table(table.assign(C=[np.nan, 5.0]), pd.DataFrame({"A": [1.0]}, index=["one"])).splitlines()
    assert lines[:2] == ["| task | A | B | C |", "| --- | ---: | ---: | ---: |"]
    assert lines[2] == "| one | 50.0 ± 1.0 | 60.0 | – |" and lines[-1] == "| mean | 60.0 | 80.0 | – |"
