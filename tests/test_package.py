"""The package as `pip install` installs it, without this folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import write_tones


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the project is installed from a copy of its files."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), str(ROOT)], check=True)
    return folder


def test_console_scripts_run_where_the_repository_is_not(installed: Path, tmp_path: Path):
    tones = write_tones(tmp_path / "tones", {"low": 150.0, "high": 2400.0}, 2, seconds=1.0)
    environment = os.environ | {"PYTHONPATH": str(installed)}

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [str(installed / "bin" / script), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert {script.name for script in (installed / "bin").iterdir()} >= {
        "cola-benchmark",
        "cola-classify",
        "cola-detect",
        "cola-embed",
        "cola-pretrain",
    }
    # The checkpoint and the page of the map are not Python files.
    embedded = run("cola-embed", "--dataset_name", str(tones), "--output_dir", "vectors", "--map")
    assert embedded.returncode == 0, embedded.stderr
    assert (tmp_path / "vectors" / "map.html").is_file()
    wrong = run("cola-pretrain", "--dataset_name", "nowhere/", "--output_dir", "out")
    assert wrong.returncode == 2 and wrong.stderr.splitlines()[-1].startswith("cola-pretrain: error: ")
