"""The tables of the benchmark."""

from run_scripts.benchmark.results import format_table


def test_format_table_has_a_mean_of_several_tasks():
    table = {"one": {"A": 50.0, "B": 60.0}, "two": {"A": 70.0, "B": 100.0}}
    assert format_table(table).splitlines()[-1] == "| mean | 60.0 | 80.0 |"
    assert "mean" not in format_table({"one": table["one"]})
    table["two"]["C"] = 5.0
    lines = format_table(table, {"one": {"A": 1.0}}).splitlines()
    assert lines[2] == "| one | 50.0 ± 1.0 | 60.0 | – |" and lines[-1] == "| mean | 60.0 | 80.0 | – |"
