"""Runs of several processes: how they are launched, and how they end when one of them fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import parse_flag_from_env

from run_scripts.common.errors import UserError


def check_launch() -> None:
    """
    Checks that the processes of a launcher can talk to each other. Call it before accelerate is set up: if it was not
    told that several processes use the CPUs of a machine without an accelerator, which is a [`UserError`], it would
    choose a backend that needs GPUs.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes > 1 and not (parse_flag_from_env("ACCELERATE_USE_CPU") or torch.accelerator.is_available()):
        raise UserError(
            f"{num_processes} processes were started on a machine without a GPU: to train on its CPUs, set "
            "ACCELERATE_USE_CPU=true, as in `ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 ...`."
        )


@contextmanager
def ending_together() -> Iterator[None]:
    """
    Ends this process when another one has failed, with a line that says so in place of the traceback of a lost
    connection.

    The process that fails leaves by its own error. Its connections close, which is an error in every process that
    waits for it; and the launcher ends the processes that do not wait.

    Raises:
        `SystemExit`: With status 1, if another process has gone.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo, the backend of CPUs, raises plain errors that name its source files.
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            rank = torch.distributed.get_rank()
            raise SystemExit(
                f"Process {rank} ends, because another process has failed: its message says why."
            ) from None
        raise
