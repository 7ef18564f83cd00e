"""Keeps embeddings for a while, bounded in bytes and age.

Nothing of a photograph outlives them.

An id is random. A hash of the photograph would tell who else has sent it.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lexiseg.inference.predictor import Embedded

__all__ = ["Embeddings", "Kept", "size_of"]


@dataclass(frozen=True, eq=False)
class Kept:
    """An embedding, the served name of the model that made it, and when it goes."""

    model: str
    embedded: Embedded
    bytes: int
    until: float


class Embeddings:
    """For one thread: the server's event loop.

    most_bytes: of all embeddings together; the one that was not asked for longest goes first.
    seconds: how long an embedding is kept at most.
    """

    def __init__(self, most_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_bytes, self.seconds, self.clock = most_bytes, seconds, clock
        self.bytes = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, model: str, embedded: Embedded) -> str:
        """The id to find it by. One that is larger than the whole cache is not kept: its id is never found."""
        self.sweep()
        key, size = secrets.token_hex(16), size_of(embedded)
        if size <= self.most_bytes:
            while self.bytes + size > self.most_bytes:
                self._drop(next(iter(self._kept)))
            self._kept[key] = Kept(model, embedded, size, self.clock() + self.seconds)
            self.bytes += size
        return key

    def get(self, key: str) -> Kept | None:
        self.sweep()
        if (found := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
        return found

    def remove(self, key: str) -> None:
        """Whether or not it is here."""
        if key in self._kept:
            self._drop(key)

    def sweep(self) -> None:
        """Lets go of what is too old."""
        now = self.clock()
        for key in [key for key, kept in self._kept.items() if kept.until <= now]:
            self._drop(key)

    def clear(self) -> None:
        self._kept.clear()
        self.bytes = 0

    def _drop(self, key: str) -> None:
        self.bytes -= self._kept.pop(key).bytes


def size_of(value: object) -> int:
    """Bytes of all tensors and arrays in an embedding."""
    match value:
        case Tensor():
            return int(value.untyped_storage().nbytes())
        case np.ndarray():
            return int(value.nbytes)
        case tuple() | list():
            return sum(size_of(one) for one in value)
    if dataclasses.is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 0
