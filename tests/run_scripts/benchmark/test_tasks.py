"""The folders of tasks."""

from pathlib import Path

import pytest

from run_scripts.benchmark.tasks import find_tasks


def test_missing_tasks_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no folders"):
        find_tasks(str(tmp_path), None)
    (tmp_path / "birds").mkdir()
    with pytest.raises(FileNotFoundError, match="No task bees.*there are birds"):
        find_tasks(str(tmp_path), ["bees"])


@pytest.mark.parametrize(("name", "what"), [("nowhere", "does not exist"), ("file", "is a file"), (" ", "is empty")])
def test_a_folder_that_cannot_hold_tasks_is_named(
    tmp_path: Path, name: str, what: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=f"--tasks_dir '{name}' {what}"):
        find_tasks(name, None)
