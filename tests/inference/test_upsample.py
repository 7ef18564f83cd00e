"""Rows of an upsampled picture are those of the picture upsampled whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.inference.upsample import Axis, axes, values_at
from lexiseg.segmenter import DenseLogits, MaskScores

from . import plain


@settings(deadline=None)
@given(grid=st.integers(1, 50), pixels=st.integers(1, 400))
def test_the_geometry_is_torchs(grid, pixels):
    ramp = torch.arange(grid, dtype=torch.float64)[None, None]
    expected = F.interpolate(ramp, size=pixels, mode="linear", align_corners=False)[0, 0]
    axis = Axis.of(grid, pixels)
    assert np.allclose(axis.low + axis.fraction * (axis.high - axis.low), expected, atol=1e-5)


@settings(deadline=None)
@given(grid=st.integers(1, 50), pixels=st.integers(1, 400), longest=st.integers(1, 70))
def test_runs_lie_between_the_same_two_cells(grid, pixels, longest):
    axis = Axis.of(grid, pixels)
    runs = axis.runs(longest)
    assert runs[0] == 0
    assert runs[-1] == pixels
    for start, stop in itertools.pairwise(runs):
        assert 0 < stop - start <= longest
        assert len({(axis.low[y], axis.high[y]) for y in range(start, stop)}) == 1


@settings(deadline=None)
@given(
    grid=st.integers(1, 50), pixels=st.integers(1, 200), covered=st.floats(1, 300), longest=st.sampled_from([3, 1000])
)
def test_a_grid_may_cover_more_or_less_than_the_pixels(grid, pixels, covered, longest):
    axis = Axis.of(grid, pixels, covered)
    ramp = np.arange(grid, dtype=np.float64)
    expected = plain.matrix(grid, pixels, covered).numpy() @ ramp
    assert np.allclose(axis.low + axis.fraction * (axis.high - axis.low), expected, atol=1e-4)
    runs = axis.runs(longest)
    for start, stop in itertools.pairwise(runs):
        assert len({(axis.low[y], axis.high[y]) for y in range(start, stop)}) == 1


def test_an_extent_of_all_pixels_is_no_extent():
    axis, same = Axis.of(7, 31), Axis.of(7, 31, 31)
    assert all(np.array_equal(*pair) for pair in zip(axis.arrays, same.arrays, strict=True))
    assert axis.even
    assert same.even
    assert not Axis.of(7, 31, 35).even


@pytest.mark.parametrize("covers", [None, (24, 25), (19, 17)])
@pytest.mark.parametrize("weights", ["sigmoid", "linear", None])
def test_values_are_those_of_the_whole_where_rows_and_columns_cross(weights, covers):
    grid, size = torch.rand(1, 3, 5, 4), (21, 17)
    result = DenseLogits(grid, covers=covers)
    if weights:
        result = MaskScores(grid, torch.rand(1, 3, 2), weights=weights, covers=covers)
    rows, columns = np.array([0, 6, 7, 20]), np.array([1, 2, 16])
    found = values_at(result, size, rows, columns)
    expected, posterior = plain.values_of(result, size)
    assert found.dtype == torch.float32
    assert torch.allclose(found[: len(expected)].double(), expected[:, rows][:, :, columns], atol=1e-5)
    if weights:
        assert torch.allclose((found[:-1] / found[-1]).double(), posterior[:, rows][:, :, columns], atol=1e-5)


@settings(deadline=None)
@given(grid=st.integers(1, 9), pixels=st.integers(1, 40), cut=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_any_rows_are_torchs(grid, pixels, cut):
    logits = torch.arange(2 * grid * 5, dtype=torch.float32).reshape(2, grid, 5).sin()
    start, stop = sorted(min(place, pixels) for place in cut)
    expected = F.interpolate(logits[None], size=(pixels, 13), mode="bilinear", align_corners=False)[0, :, start:stop]
    rows, columns = axes((grid, 5), (pixels, 13))
    if start < stop:
        found = columns.along_rows(rows.rows(start, stop).upsample(logits))
        assert torch.allclose(found, expected, atol=1e-5)


@settings(deadline=None)
@given(pixels=st.integers(1, 60), cells=st.integers(1, 30), data=st.data())
def test_a_line_is_the_same_through_its_knots(pixels, cells, data):
    """Values on the cells that are linear between some of them; only those are needed."""
    inner = data.draw(st.sets(st.integers(0, cells - 1)))
    knots = np.array(sorted({0, cells - 1, *inner}))
    at_knots = np.sin(7.0 * knots)
    on_cells = np.interp(np.arange(cells), knots, at_knots)
    axis = Axis.of(cells, pixels)
    through = axis.through(knots)

    def along(where, values):
        return values[where.low] + where.fraction * (values[where.high] - values[where.low])

    assert np.allclose(along(axis, on_cells), along(through, at_knots), atol=1e-4)
    for start, stop in itertools.pairwise(through.runs(1000)):
        steps = np.diff(axis.places[start:stop])
        assert not len(steps) or np.ptp(steps) < 1e-4  # evenly, as the compiled loops need it
