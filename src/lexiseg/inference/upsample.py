"""Bilinear upsampling a few rows at a time, so that no picture of C channels at full size ever exists.

The geometry is that of `F.interpolate(mode="bilinear", align_corners=False)`: pixel y of Y lies at
(y + 1/2) h / Y - 1/2 on a grid of h. Outside the middles of the first and last cells values stay what they are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.segmenter import DenseLogits, MaskScores

__all__ = ["Axis", "to_width", "value_rows", "values_at"]


@dataclass(frozen=True, eq=False)
class Axis:
    """Where each pixel of one side lies on the grid: between cells `low` and `high`, `fraction` of the way."""

    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    fraction: npt.NDArray[np.float32]

    @classmethod
    def of(cls, grid: int, pixels: int) -> Axis:
        place = (np.arange(pixels) + 0.5) * (grid / pixels) - 0.5
        inside = (place > 0) & (place < grid - 1) & (grid != pixels)
        low = np.floor(place.clip(0, grid - 1)).astype(np.int32)
        fraction = np.where(inside, place - low, 0).astype(np.float32)
        return cls(low, np.where(inside, low + 1, low).astype(np.int32), fraction)

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
        """The same pixels on a grid that holds the cells `knots` alone, between which its values are linear.

        knots: in ascending order; the first is no larger than any `low`, the last no smaller than any `high`.
        """
        place = self.places
        widths = np.append(np.diff(knots), 0)
        cell = np.searchsorted(knots, place, side="right") - 1
        # a pixel on a knot belongs to the wider side, so that tiles are as large as they can be
        cell -= (place == knots[cell]) & (cell > 0) & (widths[cell - 1] > widths[cell])
        # those that are held at the first or last middle are not as far from the others as these from each other
        held = (self.low == self.high) & ((place == knots[0]) | (place == knots[-1]))
        cell = np.where(held & (place > knots[0]), len(knots) - 1, cell)
        inside = (widths[cell] > 0) & ~held
        fraction = np.where(inside, (place - knots[cell]) / np.maximum(widths[cell], 1), 0)
        low = cell.astype(np.int32)
        return Axis(low, np.where(inside, low + 1, low).astype(np.int32), fraction.astype(np.float32))

    @property
    def places(self) -> npt.NDArray[np.float64]:
        """Where each pixel lies, in cells."""
        return self.low.astype(np.float64) + self.fraction

    @property
    def arrays(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """As the compiled loops take it."""
        return self.low, self.high, self.fraction

    def along_rows(self, values: Tensor) -> Tensor:
        """[C, n, w] to float32 [C, n, W]."""
        return self.upsample(values.mT).mT

    def upsample(self, values: Tensor) -> Tensor:
        """[C, h, W] to float32 [C, H, W]."""
        low, high, fraction = (
            torch.from_numpy(part).to(values.device) for part in (self.low, self.high, self.fraction)
        )
        return torch.lerp(values[:, low].float(), values[:, high].float(), fraction[:, None])


def value_rows(result: DenseLogits | MaskScores, size: tuple[int, int], start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of a result of one image, brought to `size` pixels: float32 [K, stop - start, W].

    Logits have K = C channels. Masks have the C sums over masks of sigmoid(mask) * score, then the sum of the sigmoids
    alone, by which those sums become shares.
    """
    values = result.logits if isinstance(result, DenseLogits) else result.masks
    axis = Axis.of(values.shape[-2], size[0]).rows(start, stop)
    return _summed(result, to_width(axis.upsample(values[0]), size[1]))


def values_at(
    result: DenseLogits | MaskScores, size: tuple[int, int], rows: npt.NDArray[np.int_], columns: npt.NDArray[np.int_]
) -> Tensor:
    """The values of `value_rows` where some rows and columns of the pixels cross: float32 [K, rows, columns]."""
    values = result.logits if isinstance(result, DenseLogits) else result.masks
    down, across = (Axis.of(values.shape[side - 2], size[side]) for side in (0, 1))
    return _summed(result, across.at(columns).along_rows(down.at(rows).upsample(values[0])))


def _summed(result: DenseLogits | MaskScores, values: Tensor) -> Tensor:
    if isinstance(result, DenseLogits):
        return values
    inside = values.sigmoid_()  # [N, rows, W]
    scores = torch.cat([result.scores[0].float(), result.scores.new_ones(len(inside), 1).float()], dim=1)
    return torch.einsum("nk,nyx->kyx", scores, inside)


def to_width(values: Tensor, width: int) -> Tensor:
    """[C, n, w] to [C, n, width]."""
    if values.shape[2] == width:
        return values
    return F.interpolate(values[None], size=(values.shape[1], width), mode="bilinear", align_corners=False)[0]
