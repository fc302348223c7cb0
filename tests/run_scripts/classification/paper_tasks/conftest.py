"""The data sets in miniature, made and loaded once for all tests of the paper's tasks."""

import shutil
from pathlib import Path

import pytest
from datasets import DatasetDict

from miniatures import MAKERS
from run_scripts.classification.paper_tasks import TASKS


@pytest.fixture(scope="session")
def roots(tmp_path_factory) -> dict[str, Path]:
    """The data sets in miniature, not to be changed."""
    folders = {name: tmp_path_factory.mktemp(name) / "data" for name in TASKS}
    for name, folder in folders.items():
        MAKERS[name](folder)
    return folders


@pytest.fixture(scope="session")
def loaded(roots) -> dict[str, DatasetDict]:
    return {name: task.load(roots[name]) for name, task in TASKS.items()}


@pytest.fixture
def copy_of(roots, tmp_path):
    """A copy of a data set, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(roots[name], tmp_path / "data"))

    return copy
