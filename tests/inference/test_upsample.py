"""Rows of an upsampled picture are those of the picture upsampled whole."""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.inference.upsample import Axis, value_rows
from lexiseg.segmenter import DenseLogits, MaskScores


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


def test_value_rows_are_rows_of_the_whole():
    result = MaskScores(torch.randn(1, 3, 5, 4), torch.rand(1, 3, 2))
    inside = F.interpolate(result.masks.double(), size=(21, 17), mode="bilinear", align_corners=False)[0].sigmoid()
    sums, weight = torch.einsum("nc,nyx->cyx", result.scores[0].double(), inside), inside.sum(0)
    rows = value_rows(result, (21, 17), 6, 13)
    assert torch.allclose(rows.double(), torch.cat([sums, weight[None]])[:, 6:13], atol=1e-5)


@settings(deadline=None)
@given(grid=st.integers(1, 9), pixels=st.integers(1, 40), cut=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_any_rows_of_logits_are_torchs(grid, pixels, cut):
    logits = torch.arange(2 * grid * 5, dtype=torch.float32).reshape(1, 2, grid, 5).sin()
    start, stop = sorted(min(place, pixels) for place in cut)
    expected = F.interpolate(logits, size=(pixels, 13), mode="bilinear", align_corners=False)[0, :, start:stop]
    if start < stop:
        assert torch.allclose(value_rows(DenseLogits(logits), (pixels, 13), start, stop), expected, atol=1e-5)
