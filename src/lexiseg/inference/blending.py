"""Overlapping windows to one label map: classified, averaged at the pixels of the resized picture, labelled in bands.

The mean of windows is bilinear wherever none of them passes from one cell to the next and no window begins or ends. So
it is evaluated at the first and the last pixel of each such stretch alone, its knots, and the decoder does the rest:
for patches of 16 pixels at one value in fifty. Interpolating from the resized picture's pixels to those of the
photograph changes nothing within a stretch and is linear between two of them. Masks are not bilinear once they have
passed their sigmoid; for them every pixel is a knot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.inference.decoder import Decoder, sound
from lexiseg.inference.upsample import Axis, values_at
from lexiseg.inference.windows import Box
from lexiseg.segmenter import DenseLogits, MaskScores

__all__ = ["blend"]

Window = tuple[Box, DenseLogits | MaskScores]
Places = npt.NDArray[np.int_]


def blend(results: Iterable[Window], resized: tuple[int, int], decoder: Decoder, budget: int) -> None:
    """Fills the label map with the mean of the windows' results, as `F.interpolate` would bring it to full size.

    results: from top to bottom, each of one image (B = 1); they are asked for when their rows are due, and dropped.
    resized: (height, width) of the picture that the windows are of.
    budget: how many numbers are held at a time, beside the windows' own results.
    """
    height, width = resized
    rows, columns = Axis.of(height, decoder.size[0]), Axis.of(width, decoder.size[1])
    for stretch, active in _stretches(map(_finite, results), height):
        # the row after the last one is the next stretch's; pixels of the photograph in between need both
        down, across = _knots(active, stretch, 0), _knots(active, (0, width - 1), 1)
        step = max(1, budget // (_channels(active) * len(across)))
        for knots in (down[first : first + step + 1] for first in range(0, max(1, len(down) - 1), step)):
            last = int(np.searchsorted(rows.places, knots[-1], side="right"))
            if knots[-1] + 1 >= height:
                last = len(rows)
            if last > decoder.done:
                values = _mean(active, knots, across)  # [K, n, m]
                part = rows.rows(decoder.done, last)
                decoder.fill(values, part.through(knots), columns.through(across))


def _finite(window: Window) -> Window:
    """-inf would become NaN between two places of the grid."""
    box, result = window
    return (box, replace(result, logits=sound(result.logits))) if isinstance(result, DenseLogits) else window


def _channels(active: list[Window]) -> int:
    result = active[0][1]
    return result.logits.shape[1] if isinstance(result, DenseLogits) else result.scores.shape[2] + 1


def _stretches(results: Iterable[Window], height: int) -> Iterator[tuple[tuple[int, int], list[Window]]]:
    """Rows between which no window begins or ends, as (first, last) with the next one's first as the last; and all
    windows that have one of these rows."""
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
        yield (start, min(stop, height - 1)), active
        start = stop


def _knots(active: list[Window], span: tuple[int, int], side: int) -> Places:
    """The pixels of one axis, from the first to the last of `span`, between which the mean of windows is linear.

    side: 0 for rows, 1 for columns.
    """
    first, last = span
    starts = {first, last, last + 1}
    for low, high, cells in {(box[side], box[side + 2], _cells(box, result, side)) for box, result in active}:
        starts |= {low, high} | {low + int(start) for start in Axis.of(cells, high - low).runs(high - low)}
    ordered = np.array(sorted(start for start in starts if first <= start <= last + 1))
    return np.unique(np.concatenate([ordered[:-1], ordered[1:] - 1]))


def _cells(box: Box, result: DenseLogits | MaskScores, side: int) -> int:
    """Of the grid of a result; for masks, as many as there are pixels."""
    return int(result.logits.shape[2 + side]) if isinstance(result, DenseLogits) else box.size[side]


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
