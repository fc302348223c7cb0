"""Writing files whole or not at all, and reporting a full disk with the room that is missing."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run_scripts.common.errors import FileError


FULL = (errno.ENOSPC, errno.EDQUOT)
# What libraries that are not written in Python say in place of an error number.
FULL_MESSAGES = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")

# PyTorch's writer of checkpoints does not say why it failed, but names its source file.
TORCH_WRITER = "inline_container"

# How the names of files end that are not written yet. They begin with a point.
TEMPORARY = ".tmp"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or the one that caused it, says that a disk is full."""
    if error is None:
        return False
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in FULL):
        return True
    return any(message in str(error) for message in FULL_MESSAGES) or is_disk_full(error.__cause__)


SAME_COMMAND = "Make room and run the same command again, or name another folder."


class DiskFullError(FileError):
    """Raised when a disk is full, by a message that names the file and the room that is missing."""


@contextmanager
def report_full_disk(path: str | Path, num_bytes: int | None = None, advice: str = SAME_COMMAND) -> Iterator[None]:
    """
    Reports a full disk by one message that names the file and the room that is missing.

    Args:
        path (`str` or `Path`):
            The file or folder that the block writes, unless the error names another one.
        num_bytes (`int`, *optional*):
            About how many bytes the block writes and, if it fails, removes again. Without it the message does not say
            how many are missing.
        advice (`str`, *optional*, defaults to `SAME_COMMAND`):
            What the message tells the user to do.

    Raises:
        [`DiskFullError`]: If the disk becomes full in the block.
    """
    try:
        yield
    except Exception as error:
        named = error.filename if isinstance(error, OSError) else None
        path = Path(named) if named and TEMPORARY not in str(named) else Path(path)
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        is_full = is_disk_full(error) or (TORCH_WRITER in str(error) and free < (num_bytes or 0))
        if not is_full or isinstance(error, DiskFullError):
            raise
        room = f"{format_size(free)} are free"
        if num_bytes is not None and num_bytes > free:
            room += f" and about {format_size(num_bytes - free)} are missing"
        raise DiskFullError(f"The disk is full: {path} could not be written, {room}. {advice}") from error


@contextmanager
def written_whole(
    path: Path, num_bytes: int | None = None, advice: str = SAME_COMMAND, renames: bool | None = None
) -> Iterator[Path]:
    """
    Writes a file or a folder whole or not at all: the block writes to a temporary path beside it, which takes the name
    once it is on the disk, in place of an earlier file or folder, and is removed if the block fails.

    Args:
        path (`Path`):
            The file or folder.
        num_bytes (`int`, *optional*), advice (`str`, *optional*):
            For the message of a full disk; see [`report_full_disk`].
        renames (`bool`, *optional*):
            If several processes write one folder together, whether this is the one that gives it its name, the last to
            leave the block. Their temporary path is the same.

    Returns:
        `Iterator[Path]`: The temporary path, which does not exist yet.

    Raises:
        [`DiskFullError`]: If the disk becomes full in the block.
    """
    owner = f".{os.getpid()}" if renames is None else ""
    temporary = path.with_name(f".{path.name}{owner}{TEMPORARY}")
    with report_full_disk(path, num_bytes, advice):
        try:
            yield temporary
            if renames is not False:
                _rename(temporary, path)
        except BaseException:
            _remove(temporary)
            raise


def _rename(temporary: Path, path: Path) -> None:
    for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
        if file.is_file():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
    if path.is_dir():
        _remove(path)
    os.replace(temporary, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_temporary_files(folder: Path) -> None:
    """Removes what runs that were killed had begun to write in a folder, which no other run may write to."""
    for path in folder.glob(f".*{TEMPORARY}"):
        _remove(path)


def make_output_dir(output_dir: Path, argument: str = "--output_dir") -> None:
    """
    Makes the output folder of a script, unless it exists, and checks that it can be written to. If not, it is a
    [`FileError`] that names the `argument`.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output_dir).close()
    except OSError as error:
        raise FileError(
            f"{argument} {output_dir} cannot be written to: {error.strerror or error}. Choose another folder."
        ) from error


def format_size(num_bytes: int) -> str:
    """Formats a number of bytes for messages."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes} bytes"


def write_text(path: Path, text: str, append: bool = False, advice: str = SAME_COMMAND) -> None:
    """
    Writes a text file in UTF-8, whole or not at all, or adds text at the end of one. File names in the text that are
    not UTF-8 are written as they are. `advice` is what the message of a full disk tells the user to do.
    """
    data = text.encode("utf-8", errors="surrogateescape")
    if append:
        with report_full_disk(path, len(data), advice), open(path, "ab") as file:
            file.write(data)
    else:
        with written_whole(path, len(data), advice) as temporary:
            temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all; see [`write_text`]."""
    write_text(path, json.dumps(value, indent=2))
