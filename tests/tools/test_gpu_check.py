"""The check of a GPU, on the CPU: its whole way in tiny sizes, and what it makes of failures."""

from pathlib import Path

import pytest
import torch

from run_scripts.common.errors import UserError
from tools import gpu_check
from tools.gpu_check import ENCODERS, ON_CPU, Check


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(torch.device("cpu"), ON_CPU, tmp_path, deadline=float("inf"))


def rows_of(report: str, start: str) -> list[list[str]]:
    """The cells of the table whose header starts like this."""
    (table,) = (part for part in report.split("\n\n") if part.startswith(f"| {start}"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.slow
def test_the_whole_check_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = gpu_check.main(["--cpu", "--output_dir", str(tmp_path)])
    report = (folder / "gpu_check.md").read_text()
    assert report.startswith("No GPU.")
    assert "tests collected" in report or "test collected" in report
    compared = rows_of(report, "compared with")
    assert {row[0] for row in compared} == {f"{e.name}, {what}" for e in ENCODERS for what in ("loss", "vectors")}
    assert all(row[2] == "0.0e+00" for row in compared if row[1] == "float32")
    assert all(0 < float(row[2]) < 0.1 for row in compared if row[1] == "bfloat16")
    steps = rows_of(report, "encoder | pairs")
    assert [row[0] for row in steps] == [encoder.name for encoder in ENCODERS]
    assert all(float(row[2]) > 0 and float(row[4]) > 0 for row in steps)
    assert [row[0] for row in rows_of(report, "4 pairs, `--dataloader")] == ["`--recipe paper`", "`--recipe best`"]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows_of(report, "embedding"))
    assert [path.name for path in folder.iterdir()] == ["gpu_check.md"]
    printed = capsys.readouterr().out
    assert all(f"{number}/6 {title}" in printed for number, title in enumerate(gpu_check.STEPS, 1))


def test_a_failing_step_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def fail(check: Check) -> list[str]:
        raise ZeroDivisionError("on purpose")

    steps = {"First": fail, "Second": lambda check: ["| a |", "| --- |", check.compare("vectors", "float32", 0.5)]}
    monkeypatch.setattr(gpu_check, "STEPS", steps | {"Third": lambda check: [check.compare("loss", "float32", 1e-4)]})
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main(["--cpu", "--output_dir", str(tmp_path)])
    assert stopped.value.code == 1
    report = (tmp_path / "gpu_check.md").read_text()
    assert "First: failed." in report
    assert "| vectors | float32 | 5.0e-01 | 0.001 | **no** |" in report
    assert "| loss | float32 | 1.0e-04 | 0.001 | yes |" in report
    failed = capsys.readouterr().err.partition("Failed:")[2]
    assert "on purpose" in failed and "vectors in float32 differs by 0.5" in failed and "loss" not in failed


def test_a_difference_that_is_no_number_fails(check: Check):
    assert "**no**" in check.compare("loss", "float32", float("nan"))
    assert len(check.failures) == 1


@pytest.mark.parametrize(
    ("error", "cell", "num_failures"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory", 0),
        (RuntimeError("backend failed: CUDA out of memory"), "out of memory", 0),
        (RuntimeError("no kernel"), "failed", 1),
    ],
)
def test_a_step_that_fails_is_a_cell(
    check: Check, monkeypatch: pytest.MonkeyPatch, error: Exception, cell: str, num_failures: int
):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(gpu_check, "training_step", fail)
    assert gpu_check.time_step(check, ENCODERS[0], 2048, "bf16") == [cell, "", ""]
    assert len(check.failures) == num_failures


def test_nothing_is_compiled_after_the_deadline(tmp_path: Path):
    check = Check(torch.device("cpu"), gpu_check.ON_GPU, tmp_path, deadline=0.0)
    rows = gpu_check.measure_compiled_steps(check)[2:]
    assert len(rows) == len(ENCODERS) * len(gpu_check.ON_GPU.compiled_batch_sizes)
    assert all("out of time" in row for row in rows)


def test_a_run_is_timed_after_it_has_run(check: Check):
    runs = []
    assert check.seconds_of(lambda: runs.append(1)) < 0.1
    assert len(runs) == 4  # one to see how long it takes, and three


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path):
    with pytest.raises(UserError, match="no GPU.*--cpu"):
        gpu_check.main(["--output_dir", str(tmp_path)])
