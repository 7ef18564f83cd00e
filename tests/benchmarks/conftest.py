from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lexiseg.benchmarks import _benchmark


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., _benchmark.Opened]:
    """Opens a benchmark in the tree below tmp_path, with copies kept below it too."""

    def opens(name: str, **options: Any) -> _benchmark.Opened:
        return _benchmark.open(name, tmp_path / "data", cache=tmp_path / "cache", **options)

    return opens


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return root
