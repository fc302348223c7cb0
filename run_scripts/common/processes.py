"""Runs of several processes: how they are launched, and how they end when one of them fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from run_scripts.common.errors import UserError


# A process that has done its share waits for the others, which may have hours of work left.
LONGEST_WAIT = timedelta(days=30)


@contextmanager
def joined_processes(cpu: bool = False) -> Iterator[PartialState]:
    """
    Joins the processes that `accelerate launch` or `torchrun` has started, for a job that they share. Without a
    launcher there is only this one.

    Args:
        cpu (`bool`, *optional*, defaults to `False`):
            Whether the job uses CPUs alone, so that it does not matter which accelerators there are.

    Returns:
        `Iterator[PartialState]`: accelerate's state: the number of this process, how many there are, and the device of
        this one.

    Raises:
        [`UserError`]: If the launcher was not told to use the CPUs of a machine without an accelerator; see
            [`check_launch`].
        `SystemExit`: With status 1, if another process has failed.
    """
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")  # which `Accelerator` reads, and `PartialState` does not
    if count_processes() == 1:
        yield PartialState(cpu=use_cpu)
        return
    if not cpu:
        check_launch()
    with ending_together():
        state = PartialState(cpu=cpu or use_cpu, timeout=LONGEST_WAIT)
        yield state
        state.destroy_process_group()


def find_device() -> torch.device:
    """The device of this process: an accelerator, if there is one and `ACCELERATE_USE_CPU` does not forbid it."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device


def count_processes() -> int:
    """How many processes the launcher has started, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_local_processes() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def name_share(work: str) -> str:
    """Names what the progress bar of the main process counts: all of the work, or its own share of it."""
    num_processes = PartialState().num_processes
    return f"{work}, process 1 of {num_processes}" if num_processes > 1 else work


def check_launch() -> None:
    """
    Checks that the processes of a launcher can talk to each other. Call it before accelerate is set up: if it was not
    told that several processes use the CPUs of a machine without an accelerator, which is a [`UserError`], it would
    choose a backend that needs GPUs.
    """
    num_processes = count_processes()
    if num_processes > 1 and not (parse_flag_from_env("ACCELERATE_USE_CPU") or torch.accelerator.is_available()):
        raise UserError(
            f"{num_processes} processes were started on a machine without a GPU: to use its CPUs, set "
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
