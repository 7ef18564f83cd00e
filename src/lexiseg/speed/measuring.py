"""Measures time and memory of calls.

`lexiseg bench` and every script in benchmarks/, whose README says why, measure this way.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from lexiseg.errors import LexisegError
from lexiseg.provenance import environment

__all__ = [
    "Summary",
    "available_memory",
    "circumstances",
    "clock",
    "exponent",
    "extra_memory",
    "foreign_load",
    "in_new_process",
    "race",
    "summary",
]

Value = TypeVar("Value")
Summary = dict[str, float]  # min, median, p90 in milliseconds, and how many runs there were


def clock() -> float:
    """Seconds, when everything that was asked of the device so far is done."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def race(
    ways: Mapping[str, Callable[[], Any]], *, repeats: int, warm_up: int = 1, seconds: float = math.inf
) -> dict[str, Summary]:
    """How long each way takes. They take turns, so that all meet the same machine.

    seconds: no turn is begun after so many; one turn of each is always measured.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    begun = time.perf_counter()
    for turn in range(-warm_up, repeats):
        if turn > 0 and time.perf_counter() - begun > seconds:
            break
        for name, way in ways.items():
            start = clock()
            way()
            if turn >= 0:
                taken[name].append(1e3 * (clock() - start))
    return {name: summary(times) for name, times in taken.items()}


def summary(times: Sequence[float]) -> Summary:
    ordered = sorted(times)
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return {"min": ordered[0], "median": statistics.median(ordered), "p90": p90, "runs": len(ordered)}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """p of the best cost = a · size^p: the slope of the logarithms, by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    slope, _ = statistics.linear_regression(x, y)
    return slope


def extra_memory(job: Callable[[], Any]) -> float | None:
    """MB that the process grows by at the worst moment of `job`; None where the system does not say (not Linux).

    Only a fresh process, warmed up, can tell: memory that was freed before is used again without growth.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark so far
        before = _status("VmRSS")
        job()
        return (_status("VmHWM") - before) / 1e6
    except OSError:
        return None


def in_new_process(function: Callable[..., Value], *arguments: Any) -> Value:
    """What `function`, found by its name in a module, returns in a process that has done nothing else.

    Raises `LexisegError` where the system ends that process, which it does when memory runs out.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise LexisegError(
                "a measuring process was ended by the system, which is what happens when memory runs out; "
                "measure fewer classes or a smaller size"
            ) from error


def foreign_load(seconds: float = 0.5) -> float | None:
    """How many cores others keep busy just now; numbers taken above 0.1 are not clean. None where it is not known."""
    try:
        busy, own = _busy_seconds(), time.process_time()
        time.sleep(seconds)
        others = (_busy_seconds() - busy) - (time.process_time() - own)
    except (OSError, ValueError):
        return None
    return round(max(0.0, others / seconds), 2)


def available_memory() -> float:
    """Bytes that could be had now without swapping; infinite where the system does not say."""
    try:
        return _entry(Path("/proc/meminfo").read_text(), "MemAvailable")
    except OSError:
        return math.inf


def circumstances() -> dict[str, Any]:
    """Machine, versions and commit: what a number means nothing without. Plain JSON values."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
        "foreign_load_cores": foreign_load(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
    }


def _busy_seconds() -> float:
    """Of all cores together, since the machine was started."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    ticks = sum(map(int, (user, nice, system, irq, softirq, steal)))
    return ticks / os.sysconf("SC_CLK_TCK")


def _status(entry: str) -> float:
    return _entry(Path("/proc/self/status").read_text(), entry)


def _entry(text: str, name: str) -> float:
    """Bytes of a line such as "VmRSS:  1234 kB"."""
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
