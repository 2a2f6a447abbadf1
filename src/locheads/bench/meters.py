"""Clocks and memory meters that say what they measure."""

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locheads.bench.metered_run import resident_mib
from locheads.store.provenance import hardware

MIB = 1 << 20


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's queue drained before and after."""
    _drain(device)
    start = time.perf_counter()
    action()
    _drain(device)
    return time.perf_counter() - start


def peak_extra_mib(action: Callable[[], object], device: torch.device) -> float | None:
    """How far one call raises the memory in use above where it was, in MiB; None where the system does not tell.

    CUDA: torch's allocated bytes. CPU: the process's resident pages, after what freed memory the allocator still
    held was given back, so that a call cannot hide in its predecessor's.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident_mib("VmRSS")
        action()
        return resident_mib("VmHWM") - before
    except (OSError, AttributeError, KeyError):
        return None


def matmul_rate(rows: int, inner: int, columns: int, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of [rows, inner] x [inner, columns] and back, as in a decoder's layer."""
    a = torch.randn(rows, inner, device=device, dtype=dtype)
    up = torch.randn(inner, columns, device=device, dtype=dtype)
    down = torch.randn(columns, inner, device=device, dtype=dtype)
    repeats = 20 if device.type == "cuda" else 3

    def both_ways() -> None:
        for _ in range(repeats):
            (a @ up) @ down

    both_ways()
    return 4.0 * rows * inner * columns * repeats / seconds(both_ways, device)


def spread(values: list[float]) -> dict[str, Any]:
    """Median and range of repeated measurements, and the measurements."""
    return {
        "median": float(np.median(values)),
        "min": min(values),
        "max": max(values),
        "all": [round(value, 6) for value in values],
    }


def machine(device: torch.device) -> dict[str, Any]:
    """Where it was measured, and how busy that machine was before."""
    return {
        **hardware(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
