"""A map is filled from the top in bands, and each kind of map says how rows are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.inference.canvas import Canvas, bands
from lexiseg.inference.upsample import Axis


class Noted(Canvas):
    """Keeps which rows were drawn, and how many grid rows were at hand."""

    def __init__(self, rows: Axis, columns: Axis) -> None:
        super().__init__(rows, columns, channels=1)
        self.drawn: list[tuple[int, int, int]] = []

    def draw(self, values: Tensor, rows: Axis, columns: Axis, shown: Tensor | None) -> None:
        self.drawn.append((self.done, len(rows), values.shape[1]))


def test_a_kind_of_map_that_does_not_say_how_to_draw_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="draw"):
        Canvas(Axis.of(2, 4), Axis.of(2, 4), 1)  # type: ignore[abstract]


def test_bands_that_share_a_grid_row_fill_every_row_of_the_map_once() -> None:
    canvas = Noted(Axis.of(4, 13), Axis.of(3, 7))
    values = torch.zeros(1, 4, 3)
    for first in range(3):
        canvas.add(values[:, first : first + 2], first)
    starts = [start for start, _, _ in canvas.drawn]
    assert starts == np.cumsum([0, *(count for _, count, _ in canvas.drawn)])[:-1].tolist()
    assert canvas.done == 13
    assert {held for _, _, held in canvas.drawn} == {2}


@pytest.mark.parametrize(("rows", "numbers"), [(1, 1), (10, 1 << 21), (7, 1 << 30), (5, 0)])
def test_bands_are_all_rows_in_order_and_one_row_at_least(rows: int, numbers: int) -> None:
    found = list(bands(rows, numbers, torch.device("cpu")))
    assert [row for start, stop in found for row in range(start, stop)] == list(range(rows))
