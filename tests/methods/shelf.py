"""Puts the test doubles on the shelf of methods: whole methods of about 60 lines, each with a need of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lexiseg.methods

__all__ = ["DOUBLES", "doubles"]

DOUBLES = str(Path(__file__).parent / "doubles")


@contextmanager
def doubles() -> Iterator[None]:
    """Within, `catalog` finds the files of `doubles/` among the methods."""
    before = lexiseg.methods.__path__
    lexiseg.methods.__path__ = [*before, DOUBLES]
    try:
        yield
    finally:
        lexiseg.methods.__path__ = before
