"""The measuring scripts print their tables, whatever the numbers."""

import sys
from pathlib import Path

import pytest

from helpers import write_tones
from tools import measure_reading, measure_speed
from tools.speed import growth, rounds, workloads
from tools.speed.comparisons import COMPARISONS


def table_of(printed: str) -> list[list[str]]:
    """The cells of the rows below the header."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_measure_reading(capsys):
    measure_reading.main(["--num_clips", "4", "--seconds", "0.1"])
    rows = table_of(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["FLAC, 48 kHz, stereo, 24 bits", "prepared, flac", "prepared, pcm"]
    assert all(int(rate) > 0 for _, _, rate in rows)


def test_measure_reading_of_given_data(tmp_path: Path, capsys):
    tones = write_tones(tmp_path / "tones", {"low": 150.0, "high": 2400.0}, 4, seconds=2.0)
    measure_reading.main(["--dataset_name", str(tones), "--seconds", "0.1", "--num_workers", "0", "1"])
    assert [row[:2] for row in table_of(capsys.readouterr().out)] == [[tones.name, "0"], [tones.name, "1"]]


def test_measure_speed(tmp_path, capsys):
    arguments = ["--output_dir", str(tmp_path), "--figures", "reading", "loss", "--rounds", "1", "--quick"]
    measure_speed.main(arguments)
    printed = capsys.readouterr().out
    rows = [row for row in table_of(printed) if row[0].startswith(("Reading", "The loss"))]
    assert [row[1] for row in rows][:2] == ["random_segments", "soundfile alone"]
    assert [row[1].split()[0] for row in rows][2:] == ["64"]
    assert (tmp_path / "speed.md").read_text() == printed
    assert {path.name for path in tmp_path.glob("*.png")} == {"speed.png", "growth_loss.png"}


def test_every_figure_has_its_workload():
    subjects = [subject for comparison in COMPARISONS.values() for subject in comparison.subjects]
    assert all(callable(getattr(workloads, subject.workload)) for subject in subjects)
    assert all(callable(getattr(growth, grows.measurement)) for grows in growth.GROWTHS.values())


def test_a_missing_package_leaves_its_subject_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    rounds.serve("plain_reading")
    assert "soundfile" in capsys.readouterr().out


def test_unknown_figure(tmp_path):
    with pytest.raises(ValueError, match="--figures must be among log_mel, embedding, .*, got fast"):
        measure_speed.main(["--output_dir", str(tmp_path), "--figures", "fast"])
