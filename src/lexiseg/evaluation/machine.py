"""On what a number was made: command, commit, machine, versions."""

from __future__ import annotations

import os
from typing import Any

from lexiseg.training.run_record import environment as run_environment

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """As plain JSON values."""
    found = run_environment()
    found["machine"]["memory_gib"] = _memory_gib()
    return found


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
