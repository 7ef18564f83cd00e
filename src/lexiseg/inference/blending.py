"""Averages overlapping windows at the resized picture's pixels, in bands.

This is the order of mmseg's `slide` mode (docs/papers/maskclip.md §2.6), which the papers' numbers were made with.

From the middle of one cell to the middle of the next a window's values are linear; before the first middle and after
the last they are level. So the mean of windows is linear as long as no window passes a middle, begins or ends. Each
such stretch is evaluated at its first and last pixel alone, its knots, and the decoder fills in the rest. Along one
side of a picture, two windows of three cells of 12 pixels each:

    pixels      0                   20              36                 55
    window 1    aaaaaabbbbbbbbbbbbccccccccccccdddddd                            one letter: between the same middles
    window 2                        aaaaaabbbbbbbbbbbbccccccccccccdddddd
    knots       *    **          ****    **  **    ****          **   **

With cells of 16 pixels, down and across, that is one value in fifty. The pixels of the photograph lie between those of
the resized picture; bringing the mean to them changes nothing within a stretch and is linear between two stretches.

Linear masks are blended like logits. Masks that have to pass a sigmoid first are not linear: every pixel is a knot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.inference.canvas import Canvas
from lexiseg.inference.channels import only, shown
from lexiseg.inference.upsample import Result, Size, axes, values_at
from lexiseg.inference.windows import Box
from lexiseg.segmenter import MaskScores

__all__ = ["Window", "blend", "blend_rows"]

Window = tuple[Box, Result]
Places = npt.NDArray[np.int_]


def blend(results: Iterable[Window], resized: Size, canvas: Canvas, budget: int) -> None:
    """Fills the map with the mean of the windows' results, as `F.interpolate` would bring it to full size.

    results: from top to bottom, each sound and of one image; they are asked for when their rows are due, and dropped.
    resized: of the picture that the windows are of; the rows and columns of `canvas` lie on its pixels.
    budget: how many numbers are held at a time, beside the windows' own results.
    """
    height, width = resized
    for start, stop, active in _stretches(results, height):
        kept = shown([result for _, result in active])
        active = [(box, only(result, kept)) for box, result in active]
        # the row after the last one is the next stretch's; pixels of the photograph in between need both
        down, across = _knots(active, (start, min(stop, height - 1)), 0), _knots(active, (0, width - 1), 1)
        step = max(1, budget // (_numbers(active) * len(across)))
        for knots in (down[first : first + step + 1] for first in range(0, max(1, len(down) - 1), step)):
            last = int(np.searchsorted(canvas.rows.places, knots[-1], side="right"))
            if knots[-1] + 1 >= height:
                last = len(canvas.rows)
            if last > canvas.done:
                values = _mean(active, knots, across)  # [K, n, m]
                part = canvas.rows.rows(canvas.done, last)
                canvas.fill(values, part.through(knots), canvas.columns.through(across), kept)


def blend_rows(results: Iterable[Window], resized: Size, budget: int) -> Iterator[tuple[int, Tensor]]:
    """The same mean at every pixel of the resized picture, for those who need all of them: a band of rows at a time.

    Yields (first row, [K, n, W]) from top to bottom, with K as in `sums`.
    """
    height, width = resized
    for start, stop, active in _stretches(results, height):
        step = max(1, budget // (_numbers(active) * width))
        for first in range(start, stop, step):
            yield first, _mean(active, np.arange(first, min(first + step, stop)), np.arange(width))


def _numbers(active: list[Window]) -> int:
    """That are held for a value of each channel: the channels, or also the masks they are summed from, twice."""
    masks = [result.masks.shape[1] for _, result in active if isinstance(result, MaskScores)]
    return active[0][1].channels + (1 + 2 * max(masks) if masks else 0)


def _stretches(results: Iterable[Window], height: int) -> Iterator[tuple[int, int, list[Window]]]:
    """Rows `start` to `stop` between which no window begins or ends, and all windows that have one of these rows, or
    the one after them."""
    remaining = iter(results)
    upcoming = next(remaining, None)
    active: list[Window] = []
    start = 0
    while start < height:
        while upcoming is not None and upcoming[0].top <= start:
            active.append(upcoming)
            upcoming = next(remaining, None)
        active = [(box, result) for box, result in active if box.bottom > start]
        assert active, "windows leave a gap"
        stop = min([box.bottom for box, _ in active] + ([] if upcoming is None else [upcoming[0].top]))
        while stop < height and upcoming is not None and upcoming[0].top <= stop:
            active.append(upcoming)
            upcoming = next(remaining, None)
        yield start, stop, active
        start = stop


def _knots(active: list[Window], span: tuple[int, int], side: int) -> Places:
    """The pixels of one side, from the first to the last of `span`, between which the mean of windows is linear.

    side: 0 for rows, 1 for columns.
    """
    first, last = span
    starts = {first, last, last + 1}
    for box, result in active:
        low, high = box[side], box[side + 2]
        starts |= {low, high} | {low + start for start in _stretch_starts(result, box.size, side)}
    ordered = np.array(sorted(start for start in starts if first <= start <= last + 1))
    return np.unique(np.concatenate([ordered[:-1], ordered[1:] - 1]))


def _stretch_starts(result: Result, size: Size, side: int) -> list[int]:
    """The pixels of a window where it passes from one pair of cells to the next."""
    if isinstance(result, MaskScores) and result.weights == "sigmoid":
        return list(range(size[side]))
    axis = axes(result.grid, size, covers=result.covers)[side]
    return [int(start) for start in axis.runs(len(axis))]


def _mean(active: list[Window], rows: Places, columns: Places) -> Tensor:
    """[K, n, m] at the crossings of `rows` and `columns`."""
    total: Tensor | None = None
    cover = torch.zeros(len(rows), len(columns))
    for box, result in active:
        down, across = _within(rows, box.top, box.bottom), _within(columns, box.left, box.right)
        if down.start == down.stop or across.start == across.stop:
            continue
        values = values_at(result, box.size, rows[down] - box.top, columns[across] - box.left)
        total = values.new_zeros(len(values), *cover.shape) if total is None else total
        total[:, down, across] += values
        cover[down, across] += 1
    assert total is not None, "windows leave a gap"
    return total.div_(cover.to(total.device))


def _within(places: Places, low: int, high: int) -> slice:
    start, stop = np.searchsorted(places, (low, high))
    return slice(int(start), int(stop))
