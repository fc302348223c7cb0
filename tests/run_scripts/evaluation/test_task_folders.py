"""The folders of tasks."""

from pathlib import Path

import pytest

from run_scripts.evaluation.task_folders import find_tasks


def test_missing_tasks_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no folders"):
        find_tasks(str(tmp_path), None)
    (tmp_path / "birds").mkdir()
    with pytest.raises(FileNotFoundError, match="No task bees.*there are birds"):
        find_tasks(str(tmp_path), ["bees"])
