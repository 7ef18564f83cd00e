"""Says how a result came about, and writes run.json.

It tells command, commit, machine and versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import lexiseg
from lexiseg import files

__all__ = ["environment", "write_run"]

_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "numpy", "pillow")


def write_run(out: Path, content: Mapping[str, Any]) -> None:
    """Writes run.json: `content`, and one entry under "sessions" for every time the run was started."""
    path = out / "run.json"
    try:
        sessions = json.loads(path.read_text())["sessions"]
    except (OSError, ValueError, KeyError):
        sessions = []
    sessions.append({"started": datetime.now(UTC).isoformat(timespec="seconds"), **environment()})
    files.write_text(path, json.dumps({**content, "sessions": sessions}, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Command, commit, machine and versions."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    versions = {"python": platform.python_version(), "lexiseg": lexiseg.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    machine = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
    return {"command": sys.argv, "commit": _commit(), "machine": machine, "versions": versions}


def _commit() -> str | None:
    """The commit of lexiseg's own source, with "+changes" for uncommitted ones; None outside of a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # the folder may be inside another project's checkout
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
