"""Blended windows against upsampling each, averaging at every pixel, resizing and taking the argmax."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.inference import decoder as decoding
from lexiseg.inference.blending import blend, blend_rows
from lexiseg.inference.decoder import Decoder
from lexiseg.inference.upsample import axes
from lexiseg.inference.windows import Box, boxes
from lexiseg.segmenter import DenseLogits, MaskScores

from . import plain

PATHS = ["numba", "torch"]
Windows = list[tuple[Box, DenseLogits | MaskScores]]


def choose(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "torch":
        monkeypatch.setattr(decoding, "_kernels", lambda: None)
    else:
        pytest.importorskip("numba")


def plainly(windows: Windows, resized: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """[K, *size] in float64: the papers' order (docs/papers/maskclip.md §2.6)."""
    total, cover = None, torch.zeros(resized, dtype=torch.float64)
    for box, result in windows:
        values = plain.values_of(result, box.size)[0]
        if isinstance(result, MaskScores):
            weights = result.weigh(plain.stretch(result.masks[0], box.size, result.covers))
            values = torch.cat([values, weights.sum(0, keepdim=True)])
        total = values.new_zeros(len(values), *resized) if total is None else total
        total[:, *box.slices] += values
        cover[box.slices] += 1
    return plain.stretch(total / cover, size)


def cells(pixels: int, patch: int) -> int:
    return math.ceil(pixels / patch)


def some_windows(seed: int, plan: list[Box], channels: int, patch: int, gain: float = 5.0) -> Windows:
    generator = torch.Generator().manual_seed(seed)
    grids = [tuple(cells(side, patch) for side in box.size) for box in plan]
    return [
        (box, DenseLogits(gain * torch.randn(1, channels, *grid, generator=generator)))
        for box, grid in zip(plan, grids, strict=True)
    ]


def check(windows: Windows, resized: tuple[int, int], size: tuple[int, int], channels: int, budget: int) -> None:
    decoder = Decoder(*axes(resized, size), channels, shares=isinstance(windows[0][1], MaskScores))
    blend(iter(windows), resized, decoder, budget)
    labels, scores = decoder.finish()
    values = plainly(windows, resized, size)
    chosen = torch.from_numpy(labels.astype(np.int64))[None]
    won = values[:channels].gather(0, chosen)[0]
    assert (values[:channels].max(dim=0).values - won <= 2e-5 * values.abs().max().clamp(min=1)).all()
    posterior = won / values[-1] if decoder.shares else values.softmax(dim=0).gather(0, chosen)[0]
    assert np.allclose(scores, posterior, rtol=3e-3, atol=1e-5)


@pytest.mark.parametrize("path", PATHS)
@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    resized=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.one_of(st.none(), st.tuples(st.integers(1, 90), st.integers(1, 90))),
    window=st.one_of(st.none(), st.integers(4, 40)),
    stride=st.integers(3, 40),
    patch=st.sampled_from([1, 2, 4, 7, 16]),
    channels=st.integers(1, 6),
    budget=st.sampled_from([1, 500, 10**8]),
)
def test_the_mean_of_windows_is_that_of_the_plain_way(
    path, seed, resized, size, window, stride, patch, channels, budget
):
    plan = boxes(resized, window, None if window is None else min(stride, window))
    windows = some_windows(seed, plan, channels, patch)
    with pytest.MonkeyPatch.context() as monkeypatch:
        choose(path, monkeypatch)
        check(windows, resized, size or resized, channels, budget)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("weights", ["sigmoid", "linear"])
@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    resized=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.one_of(st.none(), st.tuples(st.integers(1, 60), st.integers(1, 60))),
    window=st.one_of(st.none(), st.integers(4, 30)),
    budget=st.sampled_from([1, 10**8]),
)
def test_masks_of_windows_are_averaged_as_in_the_plain_way(path, weights, seed, resized, size, window, budget):
    generator = torch.Generator().manual_seed(seed)

    def result() -> MaskScores:
        masks, scores = 4 * torch.randn(1, 5, 3, 4, generator=generator), torch.rand(1, 5, 3, generator=generator)
        return MaskScores(masks if weights == "sigmoid" else masks.abs(), scores, weights=weights)

    windows = [(box, result()) for box in boxes(resized, window)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        choose(path, monkeypatch)
        check(windows, resized, size or resized, 3, budget)


@pytest.mark.parametrize("budget", [1, 700, 10**8])
@pytest.mark.parametrize("size", [(45, 70), (90, 33)])
@pytest.mark.parametrize("kind", ["logits", "sigmoid", "linear"])
def test_every_window_is_stretched_over_what_its_grid_covers(kind, size, budget):
    """Each window is padded to multiples of 16, on a grid of one cell for 4 pixels; those at the border are odd."""
    plan, generator = boxes((45, 70), 30, 17), torch.Generator().manual_seed(0)
    windows: Windows = []
    for box in plan:
        covers = tuple(cells(side, 16) * 16 for side in box.size)
        grid = torch.randn(1, 4, *(side // 4 for side in covers), generator=generator)
        scores = torch.rand(1, 4, 3, generator=generator)
        results = {
            "logits": DenseLogits(5 * grid[:, :3], covers=covers),
            "sigmoid": MaskScores(5 * grid, scores, covers=covers),
            "linear": MaskScores(grid.abs(), scores, weights="linear", covers=covers),
        }
        windows.append((box, results[kind]))
    check(windows, (45, 70), size, 3, budget)


@pytest.mark.parametrize(("weights", "most"), [("linear", 0.2), ("sigmoid", 1.0)])
def test_linear_masks_are_evaluated_at_knots_alone(weights, most):
    plan = boxes((96, 96), 64, 32)
    windows = [(box, MaskScores(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 2), weights=weights)) for box in plan]
    decoder = Decoder(*axes((96, 96), (96, 96)), 2, shares=True)
    fill, counted = decoder.fill, []
    decoder.fill = lambda values, *axes: (counted.append(values[0].numel()), fill(values, *axes))
    blend(windows, (96, 96), decoder, 10**8)
    assert sum(counted) <= most * 1.1 * 96 * 96


@pytest.mark.parametrize("budget", [1, 3000, 10**9])
@pytest.mark.parametrize("kind", ["logits", "sigmoid", "linear"])
def test_blended_rows_are_the_mean_over_windows(budget, kind):
    size, plan = (45, 70), boxes((45, 70), 32, 20)
    generator = torch.Generator().manual_seed(0)

    def result() -> DenseLogits | MaskScores:
        grid, scores = torch.rand(1, 4, 4, 4, generator=generator), torch.rand(1, 4, 3, generator=generator)
        return DenseLogits(grid) if kind == "logits" else MaskScores(grid, scores, weights=kind)

    windows = [(box, result()) for box in plan]
    expected, done = plainly(windows, size, size), 0
    for first, band in blend_rows(iter(windows), size, budget):
        assert first == done
        done = first + band.shape[1]
        assert torch.allclose(band.double(), expected[:, first:done], atol=1e-5)
    assert done == size[0]


def test_windows_are_asked_for_when_rows_at_every_pixel_are_due():
    plan, asked = boxes((160, 32), 32, 32), []

    def results():
        for box in plan:
            asked.append(box.top)
            yield box, DenseLogits(torch.zeros(1, 2, 4, 4))

    for first, _ in blend_rows(results(), (160, 32), 2 * 32 * 8):
        assert max(asked) <= first + 64  # one is looked at to see where it begins
    assert asked == [0, 32, 64, 96, 128]


def test_windows_may_have_grids_of_their_own():
    plan = boxes((50, 60), 32, 20)
    generator = torch.Generator().manual_seed(0)
    windows = [
        (box, DenseLogits(5 * torch.randn(1, 4, 2 + place % 3, 5 - place % 2, generator=generator)))
        for place, box in enumerate(plan)
    ]
    check(windows, (50, 60), (75, 40), 4, 10**8)


def test_windows_are_asked_for_when_their_rows_are_due():
    plan, asked = boxes((160, 32), 32, 32), []

    def results():
        for box in plan:
            asked.append(box.top)
            yield box, DenseLogits(torch.zeros(1, 2, 4, 4))

    decoder = Decoder(*axes((160, 32), (160, 32)), 2)
    fill, seen = decoder.fill, []
    decoder.fill = lambda *given: (seen.append((decoder.done, max(asked))), fill(*given))
    blend(results(), (160, 32), decoder, 10**8)
    assert asked == [0, 32, 64, 96, 128]
    assert all(top <= done + 64 for done, top in seen)  # one is looked at to see where it begins


def test_memory_does_not_hold_classes_times_pixels():
    pytest.importorskip("numba")
    plan = boxes((512, 512), 256, 128)
    channels = 300
    windows = some_windows(0, plan, channels, 16)
    counted = 0

    def count(*values):
        nonlocal counted
        counted = max(counted, values[0].numel())

    decoder = Decoder(*axes((512, 512), (512, 512)), channels)
    fill = decoder.fill
    decoder.fill = lambda values, *axes: (count(values), fill(values, *axes))
    tracemalloc.start()
    blend(windows, (512, 512), decoder, 1 << 26)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counted < channels * 512 * 512 / 10
    assert peak < channels * 512 * 512 * 4 / 10
