"""How the scripts meet the person at the command line."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser

from run_scripts.common.errors import UserError, as_user_error, describe


# The arguments that name folders, data sets or models, and are never empty on purpose.
NAMES = ("output_dir", "dataset_name", "data_dir", "model_name_or_path")


class ArgumentParser(HfArgumentParser):
    """The parser of a script's arguments, which reports a wrong argument as a [`UserError`]."""

    def parse(self, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
        """
        Parses a command line, by default that of the process, and returns the parser's dataclasses, filled in. A `~`
        at the start of `--output_dir` is the user's home, even where the shell has left it as it is.

        Raises:
            [`UserError`]: If an argument is unknown, missing, or has a value that its dataclass refuses, or if the
                name of a folder, a data set or a model is empty.
        """
        with as_user_error():
            *parsed, unknown = self.parse_args_into_dataclasses(argv, return_remaining_strings=True)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        for arguments in parsed:
            for name in NAMES:
                if isinstance(value := getattr(arguments, name, None), str) and not value.strip():
                    raise UserError(f"--{name} is empty.")
            if (output_dir := getattr(arguments, "output_dir", None)) is not None:
                arguments.output_dir = os.path.expanduser(output_dir)
        return tuple(parsed)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the arguments")


def run_script(main: Callable[[], Any]) -> None:
    """
    Runs a script, which reads `sys.argv`, as a command.

    A mistake of the user, such as an argument out of range or a missing file, is reported in one line, without a
    traceback, and the exit status is 2. With `--debug` anywhere in the command line the traceback is shown as well. A
    fault of the code keeps its traceback and the exit status 1.
    """
    is_debugging = "--debug" in sys.argv
    if is_debugging:
        sys.argv.remove("--debug")
    try:
        main()
    except Exception as error:
        if is_debugging or not is_users_mistake(error):
            raise
        print(f"{Path(sys.argv[0]).name}: error: {describe(error)}", file=sys.stderr)
        raise SystemExit(2) from None


def start_logging(name: str = "run_scripts", is_main_process: bool = True) -> None:
    """Shows what the loggers of this name report, as it is; of other processes than the main one, errors alone."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger(name).setLevel(logging.INFO if is_main_process else logging.ERROR)


def is_users_mistake(error: Exception) -> bool:
    """
    Whether an error says that the command cannot be carried out, rather than that the code is at fault: one that this
    project raises on purpose, or the system's refusal to let the user read or write a file.
    """
    if isinstance(error, (UserError, PermissionError)):
        return True
    from feature_extraction import DataError  # only now, since the package imports torch

    return isinstance(error, DataError)
