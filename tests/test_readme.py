"""The examples of the README and of the pages in docs/, run in their order, as a reader would."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import STAND_INS, has_torchcodec, write_tones


ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
CLASSIFICATION = ROOT / "docs" / "classification.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "model_card.md", CONTRIBUTING, ROOT / "CHANGELOG.md"]


# Pages about no command: what was tried, and what to train on.
RECORDS = ("experiments.md", "runs.md", "training_data.md")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_every_python_block_runs(tmp_path: Path):
    """Those of a page share their variables. The command that a page needs is run first."""
    write_tones(tmp_path / "path" / "to" / "clips", {"low": 150.0, "high": 2400.0}, 12, seconds=1.2)
    for name in ("dog.mp3", "dog.wav"):
        soundfile.write(tmp_path / name, 0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
    for folder in ("modeling_cola", "run_scripts"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    python_path = [str(ROOT)] if has_torchcodec() else [str(ROOT), str(STAND_INS)]
    python_path = os.pathsep.join([*python_path, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": python_path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    fine_tuning = blocks(CLASSIFICATION, "bash")[0]
    python, *arguments = shlex.split(fine_tuning.replace("\\\n", " "))
    assert python == ".venv/bin/python"
    run(sys.executable, *arguments, "--num_train_epochs", "1")
    pages = {
        page: "\n".join(blocks(page, "python")) for page in PAGES if page.name not in ("scaling.md", "model_card.md")
    }
    pages[README] += "\nprint(list(outputs.pooler_output.shape), list(outputs.last_hidden_state.shape))"
    pages[CLASSIFICATION] = pages[CLASSIFICATION].replace("num_train_epochs=20", "num_train_epochs=1")
    pages[CLASSIFICATION] += "\nprint(pipeline('audio-classification', model='my-classifier')(load_audio('dog.mp3')))"
    code = "\n".join(f"exec({page!r}, {{}})" for page in pages.values())
    printed = run(sys.executable, "-c", code)
    assert "[1, 1536] [1, 2, 1536]" in printed
    assert "'label': 'low'" in printed and "'label': 'high'" in printed


def test_every_script_is_in_the_table_of_the_readme():
    scripts = {path.name for path in (ROOT / "run_scripts").glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"^\|[^|]+\| `(\w+\.py)` \|", README.read_text(), flags=re.MULTILINE)) == scripts


def test_every_folder_and_program_for_developers_is_in_a_table():
    text = CONTRIBUTING.read_text()
    folders = re.findall(r"^\| `([\w/]+)/` \|", text, flags=re.MULTILINE)
    assert folders and all((ROOT / folder).is_dir() for folder in folders)
    packages = {str(path.relative_to(ROOT)) for path in (ROOT / "run_scripts").iterdir() if path.is_dir()}
    assert packages - {"run_scripts/__pycache__"} <= set(folders)
    programs = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"__init__"}
    assert set(re.findall(r"^\| `python -m tools\.(\w+)` \|", text, flags=re.MULTILINE)) == programs


def test_every_page_begins_with_a_command_or_code():
    for page in (ROOT / "docs").glob("*.md"):
        if page.name not in RECORDS:
            title, first = page.read_text().split("\n\n")[:2]
            assert title.startswith("# ") and first.startswith(("```bash\n", "```python\n")), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in link:
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            headings = re.findall(r"^#+ (.+)$", target.read_text(), flags=re.MULTILINE) if heading else []
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]
            assert not heading or heading in slugs, link


def test_every_page_of_the_documentation_is_in_the_readme():
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".ipynb")}
    assert pages <= set(re.findall(r"\]\((docs/[^)#]+)\)", README.read_text()))
