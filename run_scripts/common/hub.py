"""The Hub: which names are on it, and the repository that a script pushes to."""

from pathlib import Path

from huggingface_hub import HfApi

from feature_extraction.loading import is_path
from run_scripts.common.errors import as_user_error


def hub_name(name: str | None) -> str | None:
    """Returns the name of a model or data set if it is one on the Hub, and `None` if it is a path or nothing."""
    return None if name is None or Path(name).exists() or is_path(name) else name


def create_hub_repository(name: str | None, output_dir: str | Path, repo_type: str = "model") -> str:
    """
    Creates the repository to push to, by default under the name of the output folder, unless it exists. Call it before
    the work begins, so that a wrong name or a missing token stops the script early.

    Returns:
        `str`: Its full name, with that of its owner.

    Raises:
        [`UserError`]: If it cannot be created.
    """
    name = name or Path(output_dir).resolve().name
    with as_user_error(f"--push_to_hub: the repository {name} cannot be created on the Hub"):
        return HfApi().create_repo(name, repo_type=repo_type, exist_ok=True).repo_id
