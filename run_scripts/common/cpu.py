"""What makes training on a CPU fast."""

import ctypes

import torch


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def tune_cpu() -> None:
    """
    Two settings of the process, to be made before the first tensor.

    Denormal numbers are taken for zero: some weights at the start are so small that they slow a step severalfold.
    And glibc keeps freed memory: by default it hands each large tensor back to the kernel and asks for it again, page
    by page, at every step, which takes about half of a step's time (`run_scripts/measure_speed.py` measures it).
    """
    torch.set_flush_denormal(True)
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    except (AttributeError, OSError, TypeError):
        pass  # not glibc
