"""The README's examples, run in their order, as a reader would."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from helpers import write_tones


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_every_python_block_runs(tmp_path: Path):
    """In one process, after the command that the second block needs."""
    write_tones(tmp_path / "path" / "to" / "clips", {"low": 150.0, "high": 2400.0}, 12, seconds=1.2)
    soundfile.write(tmp_path / "dog.mp3", 0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
    for folder in ("modeling_cola", "run_scripts"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (fine_tuning,) = [block for block in blocks("bash") if "--mode fine-tuned" in block]
    python, *arguments = shlex.split(fine_tuning.replace("\\\n", " "))
    assert python == ".venv/bin/python"
    run(sys.executable, *arguments, "--num_train_epochs", "1")
    code = "\n".join(blocks("python")).replace("num_train_epochs=20", "num_train_epochs=1")
    code += "\nprint(list(outputs.pooler_output.shape), list(outputs.last_hidden_state.shape))"
    code += "\nprint(pipeline('audio-classification', model='my-classifier')(load_audio('dog.mp3')))"
    printed = run(sys.executable, "-c", code)
    assert "[1, 1536] [1, 2, 1536]" in printed
    assert "'label': 'low'" in printed and "'label': 'high'" in printed


def test_every_job_is_in_the_table_and_every_link_leads_somewhere():
    jobs = {path.name for path in (ROOT / "run_scripts").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^\| `(\w+\.py)` \|", README, flags=re.MULTILINE)) == jobs
    folders = re.findall(r"^\| `([\w/]+)/` \|", README, flags=re.MULTILINE)
    assert folders and all((ROOT / folder).is_dir() for folder in folders)
    packages = {str(path.relative_to(ROOT)) for path in (ROOT / "run_scripts").iterdir() if path.is_dir()}
    assert packages - {"run_scripts/__pycache__"} <= set(folders)
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links and all((ROOT / link).exists() for link in links)
