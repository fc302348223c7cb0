"""Resuming: the check that the run which goes on is the same."""

from pathlib import Path
from typing import Any

from run_scripts.common.errors import UserError


def check_settings(output_dir: Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    """
    Checks that a run has the settings of the one that it resumes.

    Raises:
        `ValueError`: if the settings differ. The message names the differences.
    """
    differences = [
        f"{name} was {earlier.get(name)} and is now {value}"
        for name, value in settings.items()
        if earlier.get(name) != value
    ]
    if differences:
        raise UserError(
            f"--output_dir {output_dir} contains a run with other settings: {'; '.join(differences)}. Use the same "
            "settings to resume it, or choose another folder."
        )
