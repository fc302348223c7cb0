"""Ending a run by a signal, after the step that it came in, so that the run can be saved and resumed."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator


logger = logging.getLogger(__name__)

# Steps after which several processes ask each other whether one of them was told to stop.
AGREE_STEPS = 5


class StopSignal:
    """Which of SIGTERM and SIGINT has come, if any."""

    number: int | None = None

    def has_come(self, accelerator: Accelerator, step: int) -> bool:
        """Whether a signal came. Processes agree on it, or those that went on would wait for the others for ever."""
        if accelerator.num_processes == 1:
            return self.number is not None
        if self.number is not None:
            accelerator.set_trigger()
        return step % AGREE_STEPS == 0 and accelerator.check_trigger()

    def exit(self, step: int) -> None:
        """Ends the process, whose run is saved after this step, with the exit status of the signal."""
        number = self.number or signal.SIGTERM  # which another process may have received
        logger.warning(
            f"Stopped by {signal.Signals(number).name} after step {step}, which is saved: the same command with "
            "--resume_from_checkpoint resumes the run."
        )
        raise SystemExit(128 + number)


@contextmanager
def catching_signals() -> Iterator[StopSignal]:
    """Lets a step end before SIGTERM or SIGINT ends the run. A second signal ends it at once."""
    caught = StopSignal()

    def handle(number: int, frame: Any) -> None:
        caught.number = number
        signal.signal(number, earlier[number])

    try:
        earlier = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread, which is where signals arrive
        earlier = {}
    try:
        yield caught
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
