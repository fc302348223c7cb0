"""The jobs as users start them: as files and as modules."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from run_scripts import run_classification


ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "run_scripts").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize(
    "job", ["run_pretraining", "run_classification", "run_detection", "run_benchmark", "prepare_audio", "quickstart"]
)
def test_help_loads_no_heavy_library(job):
    """Loading them takes several times as long as the help itself."""
    code = (
        f"import sys; from run_scripts.{job} import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'datasets', 'timm', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]", run.stderr


def test_help_of_classification_shows_our_arguments_and_where_the_trainers_are(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit, match="0"):
        run_classification.main(["--output_dir", "out", "--help"])
    text = capsys.readouterr().out
    assert "--mode" in text and "--class_weights" in text and "--weight_decay" not in text
    assert "All other arguments of the Trainer" in text and run_classification.TRAINER_PAGE in text


@pytest.mark.parametrize(
    "job", ["prepare_audio", *(pytest.param(job, marks=pytest.mark.slow) for job in JOBS if job != "prepare_audio")]
)
def test_help_as_a_file_and_as_a_module(job, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in ([f"{ROOT}/run_scripts/{job}.py"], ["-m", f"run_scripts.{job}"]):
        run = subprocess.run(
            [sys.executable, *command, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith(f"usage: {job}.py ")
