"""Upsamples bilinearly, a few rows at a time.

A picture of C channels at full size never exists.

The geometry is that of `F.interpolate(mode="bilinear", align_corners=False)`: pixel y of Y lies at
(y + 1/2) h / Y - 1/2 on a grid of h. Outside the middles of the first and last cells values stay what they are there.
A grid that covers more than the Y pixels (its network pads) has its own extent in place of Y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.segmenter import DenseLogits, MaskScores

__all__ = ["Axis", "Result", "Size", "axes", "sums", "values_at"]

Result = DenseLogits | MaskScores
Size = tuple[int, int]  # height, width


@dataclass(frozen=True, eq=False)
class Axis:
    """Where each pixel of one side lies on the grid: between cells `low` and `high`, `fraction` of the way.

    even: the pixels are all that the cells cover, so that torch's own interpolation, which is faster, does the same.
    """

    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    fraction: npt.NDArray[np.float32]
    even: bool = False

    @classmethod
    def of(cls, cells: int, pixels: int, covered: float | None = None) -> Axis:
        """covered: how many pixels the cells span, from the first on; None is all of them, and no more."""
        covered = pixels if covered is None else covered
        place = (np.arange(pixels) + 0.5) * (cells / covered) - 0.5
        inside = (place > 0) & (place < cells - 1) & (cells != covered)
        low = np.floor(place.clip(0, cells - 1)).astype(np.int32)
        fraction = np.where(inside, place - low, 0).astype(np.float32)
        return cls(low, np.where(inside, low + 1, low).astype(np.int32), fraction, covered == pixels)

    def __len__(self) -> int:
        return len(self.low)

    def rows(self, start: int, stop: int, first: int = 0) -> Axis:
        """The part for pixels `start` to `stop`, on a grid whose cells before `first` have been left out."""
        part = slice(start, stop)
        return Axis(self.low[part] - first, self.high[part] - first, self.fraction[part])

    def runs(self, longest: int) -> npt.NDArray[np.int32]:
        """The first pixel of each run of at most `longest` pixels between the same two cells, then the end."""
        place = np.arange(len(self))
        new = np.ones(len(self), bool)
        new[1:] = (self.low[1:] != self.low[:-1]) | (self.high[1:] != self.high[:-1])
        within = place - np.maximum.accumulate(np.where(new, place, 0))
        return np.append(place[within % longest == 0], len(self)).astype(np.int32)

    def at(self, pixels: npt.NDArray[np.int_]) -> Axis:
        """The part for some pixels."""
        return Axis(self.low[pixels], self.high[pixels], self.fraction[pixels])

    def through(self, knots: npt.NDArray[np.int_]) -> Axis:
        """The same pixels on a grid of fewer cells: `knots` alone, because values are linear from one to the next.

            cells    0   1   2   3   4   5   6   7   8        this axis
            pixels   |.    .    .    .    .    .    .|        where they lie on it
            knots    0   1               2           3        the cells 0, 1, 5 and 8; the new axis counts these

        knots: cells in ascending order, the first and the last that any pixel needs among them.
        """
        place = self.places
        left = np.searchsorted(knots, place, side="right") - 1  # the knot at or before each pixel
        gap = np.append(np.diff(knots), 0)  # cells from each knot to the next
        # a pixel on a knot joins the wider side, so that tiles are as large as they can be
        left -= (place == knots[left]) & (left > 0) & (gap[left - 1] > gap[left])
        # pixels before the first cell's middle, or after the last one's, all lie there: they are a tile of their own,
        # since the pixels of a tile have to lie evenly
        edge = (self.low == self.high) & ((place == knots[0]) | (place == knots[-1]))
        left = np.where(edge & (place > knots[0]), len(knots) - 1, left)
        between = (gap[left] > 0) & ~edge
        fraction = np.where(between, (place - knots[left]) / np.maximum(gap[left], 1), 0)
        low = left.astype(np.int32)
        return Axis(low, np.where(between, low + 1, low).astype(np.int32), fraction.astype(np.float32))

    @property
    def places(self) -> npt.NDArray[np.float64]:
        """Where each pixel lies, in cells."""
        return self.low.astype(np.float64) + self.fraction

    @property
    def arrays(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """As the compiled loops take it."""
        return self.low, self.high, self.fraction

    def along_rows(self, values: Tensor) -> Tensor:
        """[C, n, w] to [C, n, W]."""
        if not self.even:
            return self.upsample(values.mT).mT
        if values.shape[2] == len(self):
            return values
        size = (values.shape[1], len(self))
        return F.interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]

    def upsample(self, values: Tensor) -> Tensor:
        """[C, h, W] to float32 [C, H, W]."""
        low, high, fraction = (
            torch.from_numpy(part).to(values.device) for part in (self.low, self.high, self.fraction)
        )
        return torch.lerp(values[:, low].float(), values[:, high].float(), fraction[:, None])


def axes(
    grid: Size, size: Size, *, covers: tuple[float, float] | None = None, seen: Size | None = None
) -> tuple[Axis, Axis]:
    """Where the rows and columns of a map of `size` lie on a grid.

    covers: pixels (height, width) of the input that the grid spans; None is all of them.
    seen: the size of the input, where that is not `size`.
    """
    seen = seen or size
    rows, columns = (
        Axis.of(cells, pixels, pixels * covered / whole)
        for cells, pixels, covered, whole in zip(grid, size, covers or seen, seen, strict=True)
    )
    return rows, columns


def values_at(result: Result, size: Size, rows: npt.NDArray[np.int_], columns: npt.NDArray[np.int_]) -> Tensor:
    """A result of one image where some rows and columns of its input cross: float32 [K, rows, columns], see `sums`.

    size: of the input, in pixels.
    """
    values = result.logits if isinstance(result, DenseLogits) else result.masks
    down, across = axes(result.grid, size, covers=result.covers)
    return sums(result, across.at(columns).along_rows(down.at(rows).upsample(values[0])))


def sums(result: Result, values: Tensor) -> Tensor:
    """What is upsampled, to what the decoder compares: [K, n, m].

    values: logits [C, n, m], which stay as they are, K = C; or masks [N, n, m], which become the C sums over masks of
        weight * score, and one more channel, the sum of the weights, of which the others are shares: K = C + 1.
    """
    if isinstance(result, DenseLogits):
        return values
    scores = torch.cat([result.scores[0], result.scores.new_ones(len(values), 1)], dim=1)  # [N, C + 1]
    return (scores.mT @ result.weigh(values).flatten(1)).view(-1, *values.shape[1:])
