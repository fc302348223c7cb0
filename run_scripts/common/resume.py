"""Resuming: the check that the run which goes on is the same."""

import json
from pathlib import Path
from typing import Any

from run_scripts.common.errors import UserError


def check_settings(
    path: Path,
    earlier: dict[str, Any],
    settings: dict[str, Any],
    advice: str = "Use the same settings to resume it, or choose another folder.",
) -> None:
    """
    Checks that a run has the settings of the one that it resumes.

    Args:
        path (`Path`):
            The output folder or the checkpoint of the earlier run.
        earlier (`dict[str, Any]`):
            The settings of the earlier run, as they were read from JSON.
        settings (`dict[str, Any]`):
            Those of this run. Settings that only the earlier run has are not compared.
        advice (`str`, *optional*):
            What the message tells the user to do.

    Raises:
        `ValueError`: if the settings differ. The message names the differences.
    """
    differences = [
        f"{name} was {earlier.get(name)} and is now {value}"
        for name, value in json.loads(json.dumps(settings)).items()
        if earlier.get(name) != value
    ]
    if differences:
        raise UserError(f"{path} contains a run with other settings: {'; '.join(differences)}. {advice}")
