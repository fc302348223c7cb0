"""Mistakes of the user in a line or two, faults of the code with their traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from feature_extraction import AudioDecodingError, load_audio
from modeling_cola import COLAConfig
from run_scripts.common.command_line import is_users_mistake, run_script


ROOT = Path(__file__).parents[3]


def caught(function) -> Exception:
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def test_what_we_raise_is_the_users_mistake_and_what_breaks_is_not():
    assert is_users_mistake(caught(lambda: load_audio(b"")))
    assert is_users_mistake(caught(lambda: load_audio("nowhere.wav")))
    assert is_users_mistake(caught(lambda: COLAConfig(temperature=-1.0)))
    assert not is_users_mistake(caught(lambda: int("a")))
    assert not is_users_mistake(caught(lambda: torch.ones(2) @ torch.ones(3)))
    assert not is_users_mistake(caught(lambda: {}["key"]))


class Failing(torch.utils.data.Dataset):
    def __init__(self, fail):
        self.fail = fail

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int):
        return self.fail()


def fail_by_a_bad_clip():
    load_audio(b"")


def fail_by_a_fault():
    int("a")


def test_errors_of_workers_are_told_apart_as_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def run(fail) -> None:
        list(torch.utils.data.DataLoader(Failing(fail), num_workers=1))

    monkeypatch.setattr(sys, "argv", ["job.py"])
    with pytest.raises(SystemExit, match="2"):
        run_script(lambda: run(fail_by_a_bad_clip))
    assert capsys.readouterr().err == "job.py: error: the audio is empty: it has 0 bytes.\n"
    with pytest.raises(ValueError, match="invalid literal"):
        run_script(lambda: run(fail_by_a_fault))
    monkeypatch.setattr(sys, "argv", ["job.py", "--debug"])
    with pytest.raises(AudioDecodingError):
        run_script(lambda: run(fail_by_a_bad_clip))
    assert sys.argv == ["job.py"]


def test_the_message_names_the_value_and_not_the_validator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", ["job.py"])
    with pytest.raises(SystemExit, match="2"):
        run_script(lambda: COLAConfig(temperature=float("nan")))
    assert capsys.readouterr().err == "job.py: error: `temperature` must be above 0, got nan.\n"


def test_a_command_that_cannot_be_carried_out_ends_with_a_line_and_status_2(tmp_path: Path):
    command = [sys.executable, str(ROOT / "run_scripts" / "run_pretraining.py"), "--output_dir", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = ["--dataset_name", str(tmp_path), "--encoder", "compact"]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("run_pretraining.py: error: ") and str(tmp_path) in done.stderr
    done = subprocess.run([*command, *arguments, "--debug"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr
