"""What the benchmarks share: interleaved timing, and what is written beside each number."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def target_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call, all of its work on the device included."""
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1000


def interleaved(
    steps: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warm_up: int = 3
) -> dict[str, list[float]]:
    """Milliseconds of every round of every step.

    Steps take turns, forwards and backwards, so that whatever else the machine does falls on all of them alike and none
    always runs on a warmer cache.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + warm_up):
        for name in steps if index % 2 else reversed(list(steps)):
            elapsed = timed(steps[name], device)
            if index >= warm_up:
                times[name].append(elapsed)
    return times


def environment(device: torch.device) -> dict[str, Any]:
    """Machine class and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), {name}",
        "torch": torch.__version__,
    }
