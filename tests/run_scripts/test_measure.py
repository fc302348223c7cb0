"""The measuring jobs print their tables, whatever the numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from run_scripts import measure_reading, measure_speed


ROOT = Path(__file__).parents[2]


def table_of(printed: str) -> list[list[str]]:
    """The cells of the rows below the header."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_measure_reading(capsys):
    measure_reading.main(["--num_clips", "4", "--seconds", "0.1"])
    rows = table_of(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["FLAC, 48 kHz, stereo, 24 bits", "prepared, flac", "prepared, pcm"]
    assert all(int(rate) > 0 for _, _, rate in rows)


def test_measure_reading_of_given_data(tones, capsys):
    measure_reading.main(["--dataset_name", str(tones), "--seconds", "0.1", "--num_workers", "0", "1"])
    assert [row[:2] for row in table_of(capsys.readouterr().out)] == [[tones.name, "0"], [tones.name, "1"]]


@pytest.mark.slow
def test_measure_speed(tmp_path):
    command = [sys.executable, f"{ROOT}/run_scripts/measure_speed.py", "--batch_size", "2", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    printed = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert [row[0] for row in table_of(printed)] == list(measure_speed.VARIANTS)


def test_unknown_variant():
    with pytest.raises(ValueError, match="--variant must be one of plain, channels_last, .*, got 'fast'"):
        measure_speed.main(["--variant", "fast"])
