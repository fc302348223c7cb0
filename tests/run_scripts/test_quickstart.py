"""The quickstart, on small audio and, slowly, as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import write_tones
from run_scripts import quickstart
from run_scripts.common.errors import UserError
from run_scripts.demo import quickstart as demo


def test_labelled_folders_are_compared(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    drawn = {}
    for name in ("plot_accuracy_bars", "plot_embedding_map"):
        monkeypatch.setattr(demo, name, lambda *args, name=name, **kwargs: drawn.setdefault(name, args))
    results = quickstart.main(["--data", str(tones), "--output_dir", str(tmp_path), "--max_steps", "3"])
    assert list(results) == ["log-mel statistics", "compact, random", "COLA, frozen"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert drawn["plot_accuracy_bars"] == ({tones.name: results}, tmp_path / "comparison.png")
    vectors, path, classes = drawn["plot_embedding_map"]
    assert vectors.shape == (48, 1280) and path == tmp_path / "clip_map.png"
    assert sorted(classes) == ["high"] * 16 + ["low"] * 16 + ["middle"] * 16
    printed = capsys.readouterr().out
    assert "| task | log-mel statistics | compact, random | COLA, frozen |" in printed

    # The three lines that it prints, in a process of their own.
    lines = [line.strip() for line in printed.split("embed audio:")[1].splitlines() if line.startswith("    ")]
    code = "\n".join(["import numpy; waveform = numpy.ones(16000)", *lines, "print(list(embedding.shape))"])
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[1, 1280]", done.stderr


def test_a_flat_folder_is_pretrained_only(tmp_path: Path, capsys: pytest.CaptureFixture):
    data = write_tones(tmp_path, {"flat": 300.0}, 24, seconds=1.5) / "flat"
    out = tmp_path / "out"
    assert quickstart.main(["--data", str(data), "--output_dir", str(out), "--max_steps", "2"]) is None
    assert "There are no labels" in capsys.readouterr().out
    assert (out / "model.safetensors").exists() and not (out / "comparison.png").exists()


def test_too_few_recordings_are_told(tmp_path: Path):
    data = write_tones(tmp_path, {"flat": 300.0}, 5, seconds=1.0) / "flat"
    with pytest.raises(ValueError, match="5 recordings"):
        quickstart.main(["--data", str(data), "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize(("argument", "value"), [("--seed", "-1"), ("--max_steps", "0")])
def test_bad_arguments_are_named(argument: str, value: str):
    with pytest.raises(UserError, match=f"{argument} must be .*, got {value}"):
        quickstart.main([argument, value])


@pytest.mark.slow
def test_cola_beats_both_baselines_on_the_synthetic_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    results = quickstart.main(["--output_dir", str(tmp_path / "out")])
    assert results["COLA, frozen"] > results["log-mel statistics"] + 3
    assert results["COLA, frozen"] > results["compact, random"] + 3
