"""One run at a time in an output folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from run_scripts.common.errors import UserError
from run_scripts.common.files import make_output_dir


# Names that begin with an underscore are not pushed to the Hub by the Trainer, nor read as data by `datasets`.
LOCK, OWNER = "_lock", "_lock_owner.json"


@contextmanager
def locked(output_dir: Path, is_main_process: bool = True) -> Iterator[None]:
    """
    Keeps other runs out of an output folder, which is made if it does not exist. The lock goes with the process: that
    of a run that was killed does not keep the next one out. Of several processes of one run, the main one locks the
    folder, and the others do nothing.

    Raises:
        [`UserError`]: If another run is in the folder; the message names its process and host.
        [`FileError`]: If the folder cannot be written to.
    """
    if not is_main_process:
        yield
        return
    make_output_dir(output_dir)
    lock = FileLock(output_dir / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another run writes to {output_dir}{_describe_owner(output_dir)}: wait for it, or give another "
            "--output_dir."
        ) from None
    try:
        (output_dir / OWNER).write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        yield
    finally:
        (output_dir / OWNER).unlink(missing_ok=True)
        lock.release()


def _describe_owner(output_dir: Path) -> str:
    try:
        owner = json.loads((output_dir / OWNER).read_text())
        return f", process {owner['process']} on {owner['host']}"
    except (OSError, ValueError, KeyError):  # it has only just begun, or ends
        return ""
