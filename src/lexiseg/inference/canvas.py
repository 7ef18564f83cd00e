"""Fills maps at full size from the top, band by band."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lexiseg.inference.upsample import Axis, Size

__all__ = ["CHUNK", "Canvas", "bands"]

CHUNK = 1 << 22  # numbers that are held at a time, on a CPU


class Canvas(ABC):
    """What all such maps share: which rows are due, and what the values on the grid are.

    rows, columns: where the map's pixels lie on the grid of values.
    channels: C.
    shares: the values are not logits but sums over masks, followed by one more channel that they are shares of.
    done: how many rows are filled.
    """

    def __init__(self, rows: Axis, columns: Axis, channels: int, *, shares: bool = False) -> None:
        self.rows, self.columns = rows, columns
        self.channels, self.shares = channels, shares
        self.done = 0

    @property
    def size(self) -> Size:
        return len(self.rows), len(self.columns)

    def add(self, values: Tensor, first: int = 0, shown: Tensor | None = None) -> None:
        """Takes grid rows `first` ... [K, n, w], and fills every row of the map that they complete.

        values: finite float32; K is `channels`, and one more with `shares`.
        shown: the channels that the values are of, ascending, where it is not all: sums over masks that are 0 in all
            others. K is as many, and one more.

        Bands come in order, and each repeats the last grid row of the one before: rows in between need both.
        """
        start, stop = self.done, int(np.searchsorted(self.rows.high, first + values.shape[1]))
        if start == stop:
            return
        assert self.rows.low[start] >= first, "a band does not repeat the last row of the one before"
        self.fill(values, self.rows.rows(start, stop, first), self.columns, shown)

    def fill(self, values: Tensor, rows: Axis, columns: Axis, shown: Tensor | None = None) -> None:
        """Fills the next rows of the map, which lie as `rows` and `columns` say on a grid of values [K, h, w].

        The pixels that lie between the same two cells of `columns` lie there evenly; so do those of `rows`.
        shown: as in `add`.
        """
        self.draw(values, rows, columns, shown)
        self.done += len(rows)

    @abstractmethod
    def draw(self, values: Tensor, rows: Axis, columns: Axis, shown: Tensor | None) -> None:
        """What each kind of map does with rows `done` ... of it."""


def bands(rows: int, numbers_per_row: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """Rows in pieces that hold about as many numbers as should be in memory at a time."""
    budget = CHUNK if device.type == "cpu" else 16 * CHUNK
    step = max(1, budget // max(1, numbers_per_row))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))
