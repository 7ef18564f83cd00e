"""Holds millions of short texts in one block of memory.

A Python list of them would be copied into every worker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

__all__ = ["Texts"]


class Texts(Sequence[str]):
    """An immutable sequence of texts, kept as UTF-8 end to end."""

    def __init__(self, texts: Iterable[str]) -> None:
        ends, parts, total = [0], bytearray(), 0
        for text in texts:
            encoded = text.encode("utf-8", "surrogateescape")
            parts += encoded
            total += len(encoded)
            ends.append(total)
        self._bytes = np.frombuffer(bytes(parts), np.uint8)
        self._ends = np.asarray(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        start, end = self._ends[at], self._ends[at + 1]
        return self._bytes[start:end].tobytes().decode("utf-8", "surrogateescape")

    @property
    def sha256(self) -> str:
        """A hash of all texts and of where each ends."""
        return hashlib.sha256(self._bytes.tobytes() + self._ends.tobytes()).hexdigest()

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))
