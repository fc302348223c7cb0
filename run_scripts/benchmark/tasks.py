"""The folders of the benchmark's tasks: finding and loading them."""

from pathlib import Path

from datasets import DatasetDict

from run_scripts.classification.labels import load_labelled
from run_scripts.classification.paper_tasks import TASKS
from run_scripts.common.errors import MissingFileError


def find_tasks(tasks_dir: str, names: list[str] | None) -> list[Path]:
    """
    Finds the folders in `--tasks_dir` of the tasks of these names, by default of all. It is a [`MissingFileError`] if
    there are none, or none of a name.
    """
    root = Path(tasks_dir).expanduser()
    if not tasks_dir.strip() or not root.is_dir():
        what = "is empty" if not tasks_dir.strip() else "is a file" if root.exists() else "does not exist"
        raise MissingFileError(f"--tasks_dir {tasks_dir!r} {what}: name the folder that holds a folder for each task.")
    folders = sorted(path for path in root.glob("*") if path.is_dir())
    if not folders:
        raise MissingFileError(f"{tasks_dir} holds no folders: each task is a folder with train and test clips.")
    missing = set(names or []) - {folder.name for folder in folders}
    if missing:
        found = ", ".join(folder.name for folder in folders)
        raise MissingFileError(f"No task {', '.join(sorted(missing))} in {tasks_dir}; there are {found}.")
    return [folder for folder in folders if names is None or folder.name in names]


def is_as_published(folder: Path) -> bool:
    """Tells whether a folder has the name of one of the paper's tasks and holds its data as published, not Parquet."""
    return folder.name in TASKS and not any(folder.rglob("*.parquet"))


def load_task(folder: Path) -> DatasetDict:
    """Loads the splits of a task."""
    return TASKS[folder.name].load(folder) if is_as_published(folder) else load_labelled(str(folder))
