"""Keeps commands going when their output cannot be written.

A pipe may close, and an encoding may lack the letters.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

__all__ = ["lasting"]


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Within it, printing never ends the work.

    Letters that the console's encoding lacks are written as escapes; once the reader of a pipe has gone (`| head -1`),
    what is printed is dropped.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Lasting(one) if isinstance(one, io.TextIOWrapper) else one for one in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting(io.TextIOBase):
    """A text stream whose writes always succeed."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        stream.reconfigure(errors="backslashreplace")
        self._stream = stream

    def write(self, text: str) -> int:
        with self._until_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._until_closed():
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    @property
    def buffer(self) -> io.BufferedIOBase:
        return self._stream.buffer  # type: ignore[return-value]

    @contextlib.contextmanager
    def _until_closed(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # what is left in the buffer goes nowhere, at exit too
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self._stream.fileno())
