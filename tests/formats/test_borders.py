"""Borders are the pixels that have another label within reach, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lexiseg.formats.borders import borders

MAPS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 255]))


@given(MAPS)
def test_of_width_one_they_are_the_pixels_with_another_neighbour(labels: np.ndarray) -> None:
    expected = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= near[0] < labels.shape[0] and 0 <= near[1] < labels.shape[1]:
                expected[y, x] |= labels[near] != labels[y, x]
    assert np.array_equal(borders(labels, 1), expected)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_an_edge_has_a_border_of_that_width_on_either_side(width: int) -> None:
    labels = np.array([0, 1], np.uint16).repeat(10)[None].repeat(4, 0)
    columns = np.flatnonzero(borders(labels, width).all(0))
    assert columns.tolist() == list(range(10 - width, 10 + width))
