"""The method "colours" beside those of the package, and predictors of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import lexiseg.methods
from evaluation.pictures import TWO, folder, with_colours
from lexiseg.inference.predictor import Predictor, load


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The method "colours", and a cache that ends with the tests."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(lexiseg.methods, "__path__", with_colours(lexiseg.methods.__path__))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return folder(tmp_path / "two", TWO)


@pytest.fixture
def predictor() -> Callable[[], Predictor]:
    return lambda: load("colours/plain", device="cpu", dtype="fp32")
