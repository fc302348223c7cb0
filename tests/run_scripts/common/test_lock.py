"""Two runs in one folder."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from run_scripts.common.lock import locked


ROOT = Path(__file__).parents[3]


def test_a_second_run_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path):
    code = (
        "import os, sys, time; from pathlib import Path; from run_scripts.common.lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:  # a worker, which outlives it\n"
        "        print('in', flush=True); time.sleep(3); os._exit(0)\n"
        "    time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "in\n"
    message = f"Another run writes to {tmp_path}, process {other.pid} on {socket.gethostname()}"
    with pytest.raises(ValueError, match=message), locked(tmp_path):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with locked(tmp_path):
        pass
    with locked(tmp_path):  # and it is free again after an ordinary end
        pass
