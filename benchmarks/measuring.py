"""How the scripts of this folder measure; README.md says why."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from lexiseg import files

RESULTS = Path(__file__).parent / "results"


def race(ways: Mapping[str, Callable[[], Any]], *, repeats: int, warm_up: int = 1) -> dict[str, dict[str, float]]:
    """Milliseconds of each way: min, median, 90th percentile. They take turns, so that all meet the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warm_up, repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn >= 0:
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: summary(times) for name, times in taken.items()}


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return {"min": ordered[0], "median": statistics.median(ordered), "p90": p90, "runs": len(ordered)}


def extra_memory(job: Callable[[], Any]) -> float:
    """MB that the process grows by at the worst moment of `job`. Call it in a fresh process, warmed up and on Linux."""
    process = psutil.Process()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest mark so far
    before = process.memory_info().rss
    job()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return (peak - before) / 1e6


def foreign_load() -> float:
    """How many cores others keep busy just now; numbers taken above 0.1 are not clean."""
    own = psutil.Process().cpu_percent()
    everybody = psutil.cpu_percent(interval=0.5) / 100 * (psutil.cpu_count() or 1)
    return round(max(0.0, everybody - own / 100), 2)


def circumstances() -> dict[str, Any]:
    """Machine, versions and commit: what a number means nothing without."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "foreign_load_cores": foreign_load(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("torch", "transformers", "numpy", "numba", "pillow")},
    }


def write(path: Path, what: str, rows: list[dict[str, Any]]) -> None:
    files.write_text(path, json.dumps({"what": what, **circumstances(), "rows": rows}, indent=2) + "\n")


def _commit() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
