"""Averages several looks at one photograph, in bands of rows.

Looks differ in size, or are mirrored.

Each look is brought to the photograph by itself, as a single one would be: whole pictures straight from their grid,
windows from their mean at the pixels of the resized picture. What is averaged is what the decoder compares: logits, or
the sums over masks. The result is needed at every pixel, since the stretches on which looks are linear differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lexiseg.inference import windows
from lexiseg.inference.blending import Window, blend_rows
from lexiseg.inference.upsample import Axis, Result, Size, sums
from lexiseg.inference.windows import Box
from lexiseg.segmenter import DenseLogits, Embedding, MaskScores

__all__ = ["Blended", "Look", "Rows", "Seen", "Whole", "mean_rows", "mirrored"]


@dataclass(frozen=True, eq=False)
class Look:
    """A photograph as the network saw it once.

    resized: (height, width) of the network's input.
    views: the embedding of each window, from top to bottom; boxes are in pixels of the resized picture.
    joined: there is one view, of the whole picture, whose logits may go straight to the photograph's size.
    mirrored: left is right.
    """

    resized: Size
    views: Iterable[tuple[Box, Embedding]]
    joined: bool
    mirrored: bool = False

    def held(self) -> Look:
        """The same with all views in memory of their own, so that it can be asked about many times."""
        return replace(self, views=tuple((box, windows.alone(embedding)) for box, embedding in self.views))


class Rows(Protocol):
    """What a look says of the photograph; rows are asked for from top to bottom."""

    def at(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` at every pixel [K, n, W], K as in `upsample.sums`."""
        ...


class Whole:
    """A result of the whole picture, on its own grid.

    again: the result of grid rows `first` to `stop` alone, for grids that are classified in bands; None where `result`
        has all rows.
    """

    def __init__(
        self, result: Result, rows: Axis, columns: Axis, *, again: Callable[[int, int], Result] | None = None
    ) -> None:
        self.result, self.rows, self.columns, self.again = result, rows, columns, again

    def at(self, start: int, stop: int) -> Tensor:
        first, result = 0, self.result
        if self.again is not None:
            first = int(self.rows.low[start])
            result = self.again(first, int(self.rows.high[stop - 1]) + 1)
        values = _values(result)
        return sums(result, self.columns.along_rows(self.rows.rows(start, stop, first).upsample(values)))


class Blended:
    """The mean of windows at the pixels of the resized picture; only the rows that are needed are held."""

    def __init__(self, results: Iterable[Window], resized: Size, rows: Axis, columns: Axis, budget: int) -> None:
        self.rows, self.columns = rows, columns
        self._coming = blend_rows(results, resized, budget)
        self._held: Tensor | None = None  # [K, n, w]
        self._first = 0  # the row of the resized picture that is held first

    def at(self, start: int, stop: int) -> Tensor:
        low, high = int(self.rows.low[start]), int(self.rows.high[stop - 1])
        while self._held is None or self._first + self._held.shape[1] <= high:
            _, band = next(self._coming)
            self._held = band if self._held is None else torch.cat([self._held, band], dim=1)
        self._held, self._first = self._held[:, low - self._first :], low
        return self.columns.along_rows(self.rows.rows(start, stop, low).upsample(self._held))


@dataclass(frozen=True, eq=False)
class Seen:
    """A look that has been classified.

    result: of all of it, or of a part; what kind it is and its channels are those of the whole.
    """

    result: Result
    rows: Rows


def mean_rows(looks: Sequence[Seen], size: Size, budget: int) -> Iterator[tuple[int, Tensor]]:
    """The mean of the looks at every pixel of a map of `size`: (first row, [K, n, W]), a band at a time.

    budget: how many numbers a band has, about.
    """
    height, width = size
    first = looks[0].result
    numbers = first.channels + isinstance(first, MaskScores)
    step = max(1, budget // (numbers * width))
    for start in range(0, height, step):
        stop = min(start + step, height)
        total = looks[0].rows.at(start, stop)
        for look in looks[1:]:
            total = total + look.rows.at(start, stop)
        yield start, total / len(looks)


def mirrored(columns: Axis) -> Axis:
    """The same pixels from right to left."""
    return columns.at(np.arange(len(columns))[::-1])


def _values(result: Result) -> Tensor:
    return result.logits[0] if isinstance(result, DenseLogits) else result.masks[0]
