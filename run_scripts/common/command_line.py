"""How the jobs meet the person at the command line."""

import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError


ROOT = Path(__file__).resolve().parents[2]
# What PyTorch puts at the head of the message of an error in a worker of a DataLoader.
IN_WORKER = "in DataLoader worker process"
OUR_PACKAGES = [ROOT / name for name in ("feature_extraction", "modeling_cola", "run_scripts")]


def run_script(main: Callable[[], Any]) -> None:
    """
    Runs a job as a command.

    A mistake of the user, such as an argument out of range or a missing file, is reported in a line or two, without a
    traceback, and the exit status is 2. With `--debug` anywhere in the command line the traceback is shown as well. A
    fault of the code keeps its traceback and the exit status 1.

    Args:
        main (`Callable`):
            The job, which reads `sys.argv`.
    """
    is_debugging = "--debug" in sys.argv
    if is_debugging:
        sys.argv.remove("--debug")
    try:
        main()
    except Exception as error:
        if is_debugging or not is_users_mistake(error):
            raise
        print(f"{Path(sys.argv[0]).name}: error: {_message(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def is_users_mistake(error: Exception) -> bool:
    """
    Whether an error says that the command cannot be carried out, rather than that the code is at fault: one that this
    project raises itself, in this process or in a worker, or one about a file or an argument.
    """
    if isinstance(error, (FileNotFoundError, PermissionError, StrictDataclassError)):
        return True
    if not isinstance(error, (ValueError, OSError, FloatingPointError)):
        return False
    raised_in = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if IN_WORKER in str(error):  # the message of such an error is the worker's traceback
        raised_in = re.findall(r'^  File "(.+)", line \d+', str(error), flags=re.MULTILINE)
    return any(Path(raised_in[-1]).resolve().is_relative_to(package) for package in OUR_PACKAGES)


def _message(error: Exception) -> str:
    if isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        error = error.__cause__  # whose message names the value; that of the error names the validator
    text = str(error)
    if IN_WORKER in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())
