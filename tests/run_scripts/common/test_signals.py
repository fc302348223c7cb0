"""Ending a run by a signal."""

from types import SimpleNamespace

import pytest

from run_scripts.common.signals import AGREE_STEPS, StopSignal


@pytest.mark.parametrize("num_processes", [1, 2])
def test_several_processes_stop_only_where_they_have_agreed(num_processes: int):
    asked = []
    accelerator = SimpleNamespace(
        num_processes=num_processes, set_trigger=lambda: asked.append("set"), check_trigger=lambda: bool(asked)
    )
    stop_signal = StopSignal()
    assert not stop_signal.has_come(accelerator, AGREE_STEPS)
    stop_signal.number = 15
    assert stop_signal.has_come(accelerator, AGREE_STEPS + 1) == (num_processes == 1)
    assert stop_signal.has_come(accelerator, 2 * AGREE_STEPS)
