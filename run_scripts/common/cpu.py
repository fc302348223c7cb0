"""Process settings that make training on a CPU fast, and what a device is fast at."""

import ctypes
from contextlib import AbstractContextManager, nullcontext

import torch


# Parameters of glibc's `mallopt`.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def tune_cpu() -> None:
    """
    Sets up the process for fast training on a CPU. Call it before the first tensor is created.

    Denormal numbers are flushed to zero: some initial weights are so small that they slow a training step down several
    times. And glibc keeps the memory that is freed: by default it returns each large tensor to the kernel and requests
    it again, page by page, in every step. Without this setting, steps of 32 pairs take 1.4 (EfficientNet-B0) to 1.8
    times (compact) as long, and embedding by EfficientNet-B0 1.2 to 1.5 times; embedding by the compact encoder, whose
    chunks are small, takes the same time. Without glibc, only the first setting is made.
    """
    torch.set_flush_denormal(True)
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    except (AttributeError, OSError, TypeError):
        pass  # the C library is not glibc


def bfloat16_where_fast(device: torch.device) -> AbstractContextManager:
    """
    Computes in bfloat16 where the device multiplies in it, and as before elsewhere: it is emulated there, and many
    times slower than float32.
    """
    if device.type == "cpu":
        is_fast = torch.cpu.get_capabilities().get("amx_bf16", False)
    else:
        is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16) if is_fast else nullcontext()
