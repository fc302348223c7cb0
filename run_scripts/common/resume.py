"""Resuming: what a run writes about itself, and the check that the run which goes on is the same."""

import json
import os
from pathlib import Path
from typing import Any

from run_scripts.common.errors import UserError
from run_scripts.common.files import write_text


def write_json(path: Path, value: Any) -> None:
    """
    Writes a JSON file, which takes its name only when it is complete.

    Raises:
        `OSError`: If it cannot be written. If the disk is full, the message says how much room is missing.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write_text(temporary, json.dumps(value, indent=2))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
