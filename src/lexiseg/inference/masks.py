"""Sums masks times scores at full size, in bounded memory.

C x H x W numbers never exist.

Linear masks are summed on their own grid, since upsampling the sums gives the same, and the sums decoded like logits.
Masks that have to pass a sigmoid are upsampled first; without numba, all of them, a band of rows at a time. With it,
per cell of the masks' grid the sigmoids of the corners bound each mask, and so the sum of each class: most classes can
win nowhere in it, and most masks do not change there. Where cells are small or little can be left out, all masks are
upsampled and summed by one matrix product, a band of rows at a time. Labels are those of the plain way but where two
sums are equal to about 1e-6 of their value.
"""

from __future__ import annotations

import functools
import itertools
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.inference.canvas import Canvas, bands
from lexiseg.inference.channels import only, shown
from lexiseg.inference.decoder import Decoder
from lexiseg.inference.upsample import Axis, sums
from lexiseg.segmenter import MaskScores

__all__ = ["draw"]

TILE = 64  # pixels
BAND = 1 << 23  # numbers that are held at a time, beside the masks
SMALL = 6  # pixels; smaller cells are not worth looking for candidates
STEP = 7  # one tile of so many tells whether looking for candidates pays
# what a candidate times a mask costs at one pixel, over what it costs in a matrix product
LOOP = 5.0


def draw(result: MaskScores, canvas: Canvas) -> None:
    """Fills a map with a sound result of one image (B = 1); the map's rows and columns lie on the grid of the masks.

    With the compiled loops, holds 8 bytes for each number of the masks, and 32 MB or a row of pixels, whichever is
    more.
    """
    if result.weights == "linear":
        _add_sums(result, canvas)
    elif isinstance(canvas, Decoder) and canvas.kernels(result.masks.device) is not None:
        _decode(result, canvas)
    else:
        _fill_sums(result, canvas)


def _add_sums(result: MaskScores, canvas: Canvas) -> None:
    height, width = result.grid
    kept = shown([result])
    few = only(result, kept)
    assert isinstance(few, MaskScores), "they are masks"
    for start, stop in bands(height, _numbers_per_place(few) * width, result.masks.device):
        first = max(0, start - 1)
        canvas.add(sums(few, result.masks[0, :, first:stop]), first, kept)


def _fill_sums(result: MaskScores, canvas: Canvas) -> None:
    """Other masks are upsampled to the pixels of the map and summed there."""
    height, width = canvas.size
    every = Axis.of(width, width)
    for start, stop in bands(height, _numbers_per_place(result) * width, result.masks.device):
        here = canvas.columns.along_rows(canvas.rows.rows(start, stop).upsample(result.masks[0]))  # [N, n, W]
        canvas.fill(sums(result, here), Axis.of(stop - start, stop - start), every)


def _numbers_per_place(result: MaskScores) -> int:
    """That are held for each place where masks are summed: about two for each sum, one for each mask."""
    return 2 * (result.channels + 1) + result.masks.shape[1]


def _decode(result: MaskScores, decoder: Decoder) -> None:
    logits, scores = result.masks[0], result.scores[0]  # [N, h, w], [N, C]
    weights = torch.cat([scores, scores.new_ones(len(scores), 1)], dim=1)  # [N, C + 1]
    height, width = decoder.size
    step = max(1, BAND // (width * sum(weights.shape)))
    pruned = None
    if height * width >= SMALL * logits.shape[1] * logits.shape[2]:
        pruned = _Pruned(decoder, logits.permute(1, 2, 0).contiguous(), weights)
        step = max(1, BAND // pruned.numbers_per_row)
    for start, stop in _cuts(decoder.rows, step):
        if pruned is None or not pruned.fill(start, stop):
            _fill_all(decoder, logits, weights, (start, stop))
    decoder.done = height


def _cuts(rows: Axis, step: int) -> list[tuple[int, int]]:
    """Rows in bands of about `step` that end where cells do, as far as cells are no larger than bands."""
    cells = rows.runs(len(rows))
    edges = [0]
    while edges[-1] < len(rows):
        end = edges[-1] + step
        cell = int(cells[np.searchsorted(cells, end, side="right") - 1])
        edges.append(min(cell if cell > edges[-1] else end, len(rows)))
    return list(itertools.pairwise(edges))


def _fill_all(decoder: Decoder, logits: Tensor, weights: Tensor, band: tuple[int, int]) -> None:
    """Every mask at every pixel, every class."""
    width = decoder.size[1]
    step = max(1, BAND // (width * sum(weights.shape)))
    for first in range(*band, step):
        part = decoder.rows.rows(first, min(first + step, band[1]))
        inside = decoder.columns.along_rows(part.upsample(logits)).sigmoid_()  # [N, n, W]
        summed = (inside.flatten(1).mT @ weights).view(len(part), width, -1).numpy()  # [n, W, C + 1]
        labels = decoder.labels[first : first + len(part)]
        block = functools.partial(_label_sums, summed, decoder.policy, labels)
        decoder.in_blocks(block, np.arange(0, len(part) + 1, dtype=np.int32), first)


def _label_sums(
    summed: npt.NDArray[np.float32], policy: Any, labels: Any, part: npt.NDArray[np.int32], shares: Any
) -> None:
    _mask_kernels().label_sums(summed, part, policy, labels, shares)


def _mask_kernels() -> ModuleType:
    from lexiseg.inference import _mask_kernels

    return _mask_kernels


class _Pruned:
    """The classes and masks that count in each cell, a band of cells at a time."""

    def __init__(self, decoder: Decoder, masks: Tensor, weights: Tensor) -> None:
        self.decoder, self.rows, self.columns = decoder, decoder.rows, decoder.columns
        self.masks, self.inside = masks, masks.sigmoid()  # [h, w, N]
        self.weights = weights
        self.scores = weights.mT.contiguous().numpy()  # [C + 1, N]
        self.runs = self.columns.runs(TILE)

    @property
    def numbers_per_row(self) -> int:
        """That are held for the bounds, for each row of pixels."""
        cells = len(self.runs) * self.masks.shape[0]
        return max(1, 2 * sum(self.weights.shape) * cells // len(self.rows))

    def fill(self, start: int, stop: int) -> bool:
        """Decodes rows `start` to `stop`; False, and nothing, where upsampling everything is likely faster."""
        kernels = _mask_kernels()
        rows = self.rows.rows(start, stop)
        runs = rows.runs(TILE)
        low, high = (bound.numpy() for bound in self._bounds(rows, runs))
        inside, decoder = self.inside.numpy(), self.decoder
        if not self._pays(kernels, low, high, rows, runs):
            return False

        def block(part: npt.NDArray[np.int32], shares: npt.NDArray[np.float32]) -> None:
            tiles = slice(*np.searchsorted(runs, part[[0, -1]]))
            kernels.label_masks(
                self.masks.numpy(), inside, self.scores, low[tiles], high[tiles], rows.arrays, self.columns.arrays,
                part, self.runs, decoder.posterior, decoder.policy, decoder.labels[start:stop], shares,
            )  # fmt: skip

        decoder.in_blocks(block, runs, start)
        return True

    def _bounds(self, rows: Axis, runs: npt.NDArray[np.int32]) -> tuple[Tensor, Tensor]:
        """Of the sums of each class, and of all masks, in each tile: two of [rows of tiles, tiles, C + 1]."""
        least, most = self.inside, self.inside
        for axis, starts, dim in ((rows, runs[:-1], 0), (self.columns, self.runs[:-1], 1)):
            first, last = (torch.from_numpy(side[starts]) for side in (axis.low, axis.high))
            least = torch.minimum(least.index_select(dim, first), least.index_select(dim, last))
            most = torch.maximum(most.index_select(dim, first), most.index_select(dim, last))
        if (self.scores >= 0).all():
            return least @ self.weights, most @ self.weights
        above, below = self.weights.clamp(min=0), self.weights.clamp(max=0)
        return least @ above + most @ below, most @ above + least @ below

    def _pays(self, kernels: ModuleType, low: Any, high: Any, rows: Axis, runs: npt.NDArray[np.int32]) -> bool:
        channels, masks = self.scores.shape[0] - 1, self.scores.shape[1]
        effort = kernels.effort(
            self.inside.numpy(), low, high, rows.arrays, self.columns.arrays, runs, self.runs, channels, STEP
        )
        return bool(LOOP * effort < channels * masks)
