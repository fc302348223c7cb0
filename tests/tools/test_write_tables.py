"""The tables that the benchmark's results are written into."""

import re
from pathlib import Path

import pytest

from tools import write_tables
from tools.write_tables import TABLE, TABLES, Results, fill


ROOT = Path(__file__).parents[2]


def result(task: str, method: str, mode: str, seed: int, accuracy: float | None, **more: float) -> dict:
    return {"task": task, "method": method, "mode": mode, "seed": seed, "accuracy": accuracy} | more


@pytest.fixture
def results() -> Results:
    """Of two tasks: log-mel statistics, a checkpoint with two seeds, and its random weights with one."""
    curve = {"logistic_5": 1.0, "logistic_10": 2.0, "logistic_20": 3.0}
    values = []
    for task, value in (("birds", 40.0), ("emotion_emodb", 60.0)):
        values.append(result(task, "log-mel statistics", "log-mel", 0, None, logistic=value, knn=value - 9, **curve))
        values.append(result(task, "cola-mine, random weights", "random", 0, value, logistic=value + 1, knn=1.0))
        for seed in (0, 1):
            values.append(result(task, "cola-mine, frozen", "frozen", seed, value + seed, logistic=90.0, knn=80.0))
    values.append(result("birds", "cola-mine, fine-tuned", "fine-tuned", 0, 99.0))
    return Results(values)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_table_of_logistic_regression(results: Results):
    text = fill("Before.\n\n<!-- benchmark: frozen -->\nold\n<!-- /benchmark -->\nAfter.\n", results)
    assert text.startswith("Before.\n\n<!-- benchmark: frozen -->\n\n| task")
    assert text.endswith("|\n\n<!-- /benchmark -->\nAfter.\n") and "old" not in text
    assert lines(text) == [
        "| task | log-mel statistics | cola-mine, random weights | cola-mine |",
        "| --- | ---: | ---: | ---: |",
        "| birds | 40.0 | 41.0 | 90.0 |",
        "| emotion_emodb | 60.0 | 61.0 | 90.0 |",
        "| mean of 2 tasks | 50.0 | 51.0 | 90.0 |",
        "| mean of 1 tasks | 40.0 | 41.0 | 90.0 |",
    ]
    assert fill(text, results) == text


def test_deviations_are_those_of_the_mean_over_the_seeds(results: Results):
    text = fill("<!-- benchmark: modes cola-mine -->\n<!-- /benchmark -->", results)
    assert lines(text)[0] == "| task | random, frozen | pre-trained, frozen | pre-trained, fine-tuned |"
    assert lines(text)[2] == "| birds | 40.0 | 40.5 ± 0.7 | 99.0 |"
    assert lines(text)[4] == "| mean of 2 tasks | 50.0 | 50.5 ± 0.7 | – |"  # not fine-tuned on each task
    assert lines(fill("<!-- benchmark: modes -->\n<!-- /benchmark -->", results))[2:] == [
        "| cola-mine, 2 tasks | 50.0 | – | 50.5 ± 0.7 | – |",
        "| cola-mine, 1 tasks | 40.0 | – | 40.5 ± 0.7 | 99.0 |",
    ]


def test_the_tables_of_a_checkpoint(results: Results):
    table = lines(fill("<!-- benchmark: card cola-mine -->\n<!-- /benchmark -->", results))
    assert table[0].startswith("| task | linear layer: random weights | linear layer: cola-mine | logistic: log-mel")
    assert table[2] == "| birds | 40.0 | 40.5 ± 0.7 | 40.0 | 41.0 | 90.0 | 31.0 | 1.0 | 80.0 |"
    curves = lines(fill("<!-- benchmark: curves cola-mine -->\n<!-- /benchmark -->", results))
    assert curves[0] == "| clips of each class | 5 | 10 | 20 | all |"
    assert curves[2] == "| log-mel statistics | 1.0 | 2.0 | 3.0 | 50.0 |"
    means = lines(fill("<!-- benchmark: classifiers -->\n<!-- /benchmark -->", results))
    assert means[2] == "| linear layer, 2 tasks | – | 50.0 | 50.5 ± 0.7 |"


def test_tables_of_what_was_not_measured_stay(results: Results):
    text = "<!-- benchmark: card cola-other -->\n\n| old |\n\n<!-- /benchmark -->"
    assert fill(text, results) == text
    with pytest.raises(ValueError, match="There is no table 'frosty'; there are frozen, classifiers"):
        fill(text.replace("card cola-other", "frosty"), results)


def test_columns_and_means_of_what_was_not_measured_stay(results: Results):
    text = """<!-- benchmark: modes cola-mine -->

| task | random, frozen | from scratch | pre-trained, fine-tuned |
| --- | ---: | ---: | ---: |
| birds | 1.0 | 12.3 ± 0.4 | 7.0 |
| emotion_emodb | 2.0 | 5.0 | 8.0 |
| mean of 2 tasks | 1.5 | 8.7 | 7.5 |
| mean of 1 tasks | 1.0 | 12.3 | 7.0 |

<!-- /benchmark -->"""
    assert lines(fill(text, results)) == [
        "| task | random, frozen | from scratch | pre-trained, fine-tuned | pre-trained, frozen |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| birds | 40.0 | 12.3 ± 0.4 | 99.0 | 40.5 ± 0.7 |",
        "| emotion_emodb | 60.0 | 5.0 | – | 60.5 ± 0.7 |",
        "| mean of 2 tasks | 50.0 | 8.7 | – | 50.5 ± 0.7 |",
        "| mean of 1 tasks | 40.0 | 12.3 | 99.0 | 40.5 ± 0.7 |",
    ]
    old = "| mean over the tasks | random, frozen |\n| --- | ---: |\n| cola-other, 2 tasks | 7.0 |"
    table = lines(fill(f"<!-- benchmark: modes -->\n{old}\n<!-- /benchmark -->", results))
    assert "| cola-other, 2 tasks | 7.0 | – | – | – |" in table and len(table) == 5


def test_means_over_other_tasks_are_an_error(results: Results):
    text = fill("<!-- benchmark: frozen -->\n<!-- /benchmark -->", results)
    fewer = Results(results.values[results.values["task"] == "birds"].to_dict("records"))
    with pytest.raises(ValueError, match="differ in the rows emotion_emodb, mean of 2 tasks: measure all"):
        fill(text, fewer)


def test_results_over_folds_are_refused(monkeypatch: pytest.MonkeyPatch):
    values = result("birds", "cola-mine, frozen", "frozen", 0, 90.0, folds=3)
    monkeypatch.setattr(write_tables, "read_results", lambda path: [values])
    with pytest.raises(ValueError, match="Some results are of --folds of the training clips"):
        write_tables.main(["results"])


def test_results_without_a_value_for_a_table_leave_it(results: Results):
    birds = results.values[(results.values["task"] == "birds") & (results.values["mode"] != "fine-tuned")]
    logistic = Results(birds.assign(accuracy=None).to_dict("records"))
    old = fill("<!-- benchmark: modes cola-mine -->\n<!-- /benchmark -->", results)
    for text in (old, "<!-- benchmark: modes -->\n\n<!-- /benchmark -->"):
        assert fill(text, logistic) == text


def test_the_cards_have_a_place_for_each_table():
    paths = {path.parent.name: path for path in (ROOT / "modeling_cola").glob("cola-*/README.md")}
    names = {None: {match[2] for match in TABLE.finditer((ROOT / "model_card.md").read_text())}}
    assert names[None] == {"frozen", "classifiers", "modes", *(f"modes {checkpoint}" for checkpoint in paths)}
    for checkpoint, path in paths.items():
        text = path.read_text()
        found = [match[2] for match in TABLE.finditer(text)]
        assert found[0] == f"card {checkpoint}" and found[1].startswith("curves ") and checkpoint in found[1].split()
        assert len(re.findall("<!-- benchmark|<!-- /benchmark", text)) == 2 * len(found)
        assert {name.split()[0] for name in found} <= set(TABLES)
