"""The errors by which a script tells its user what cannot be done."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError


# What PyTorch puts at the head of the message of an error in a worker of a DataLoader.
IN_WORKER = "in DataLoader worker process"


class UserError(ValueError):
    """
    Raised on purpose, when what a command asks for cannot be done: an argument out of range, a data set without
    labels, an output folder of another run. Its message says what to do, and is all that the user sees.
    """


class FileError(UserError, OSError):
    """Raised when a file or folder that a command names cannot be read or written."""


class MissingFileError(FileError, FileNotFoundError):
    """Raised when a file or folder that a command names does not exist."""


class DivergenceError(UserError, FloatingPointError):
    """Raised when the loss of a training run is not finite any more."""


class KilledWorkerError(UserError, RuntimeError):
    """Raised when a worker process was killed, for example because the memory was used up."""


@contextmanager
def as_user_error(what: str | None = None) -> Iterator[None]:
    """
    Reports any error in the block as a [`UserError`], whose message begins with `what`: the argument, or what cannot
    be done.

    It is for blocks that do nothing but hand a value of the user to other code, such as a checkpoint to
    `from_pretrained`: what goes wrong there is due to that value.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {describe(error)}" if what else describe(error)) from error


def describe(error: Exception) -> str:
    """The message of an error in one line."""
    if isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        error = error.__cause__  # whose message names the value; that of the error names the validator
    text = " ".join(str(error).split())
    if IN_WORKER in text:  # the message is the worker's traceback, which ends with the error's own
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return text or type(error).__name__
