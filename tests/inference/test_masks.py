"""Pruned and dense decoding of masks against upsampling all of them and summing over every class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from lexiseg.errors import LexisegError
from lexiseg.inference import decoder as decoding
from lexiseg.inference import masks as module
from lexiseg.inference.decoder import Decoder
from lexiseg.inference.labelling import decode
from lexiseg.inference.upsample import axes
from lexiseg.segmenter import MaskScores

ALWAYS, NEVER = 0.0, float("inf")


def plainly(result: MaskScores, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    masks = F.interpolate(result.masks.double(), size=size, mode="bilinear", align_corners=False)[0]
    inside = masks.sigmoid()
    return torch.einsum("nc,nyx->cyx", result.scores[0].double(), inside), inside.sum(0)


def discs(seed: int, masks: int, channels: int, grid: tuple[int, int]) -> MaskScores:
    """Masks as networks give them: sure inside, sure outside, each mostly of one class."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, grid[0]), torch.linspace(0, 1, grid[1]), indexing="ij")
    middle = torch.rand(masks, 2, 1, 1, generator=generator)
    radius = 0.05 + 0.3 * torch.rand(masks, 1, 1, generator=generator)
    logits = (60 * (radius - ((y - middle[:, 0]) ** 2 + (x - middle[:, 1]) ** 2).sqrt())).clamp(-20, 12)
    return MaskScores(logits[None], (6 * torch.randn(1, masks, channels, generator=generator)).softmax(-1))


def noise(seed: int, masks: int, channels: int, grid: tuple[int, int]) -> MaskScores:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, masks, channels, generator=generator).softmax(-1)
    return MaskScores(5 * torch.randn(1, masks, *grid, generator=generator), scores)


def check(result: MaskScores, size: tuple[int, int]) -> None:
    labels, shares = decode(result, size)
    sums, weight = plainly(result, size)
    value = sums.gather(0, torch.from_numpy(labels.astype(np.int64))[None])[0]
    best = sums.max(dim=0).values
    assert (best - value <= 1e-5 * best.abs() + 1e-7).all()
    assert np.allclose(shares, (value / weight).clamp(0, 1), rtol=2e-3, atol=1e-6)
    alone = decode(result, size, scores=False)
    assert alone.scores is None
    other = sums.gather(0, torch.from_numpy(alone.labels.astype(np.int64))[None])[0]
    assert (best - other <= 1e-5 * best.abs() + 1e-7).all()


@pytest.mark.parametrize("loop", [ALWAYS, NEVER, module.LOOP])
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([discs, noise]),
    seed=st.integers(0, 10_000),
    masks=st.integers(1, 12),
    channels=st.integers(1, 9),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    signed=st.booleans(),
)
def test_labels_and_shares_are_those_of_the_plain_way(loop, kind, seed, masks, channels, grid, size, signed):
    result = kind(seed, masks, channels, grid)
    if signed:  # weights need not be probabilities
        result = MaskScores(result.masks, result.scores - 0.5 / channels)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "LOOP", loop)
        check(result, size)


@pytest.mark.parametrize("band", [1, 50_000])
def test_bands_change_nothing(monkeypatch, band):
    result = discs(3, 20, 15, (24, 20))
    whole = decode(result, (100, 90), threshold=0.5)
    monkeypatch.setattr(module, "BAND", band)
    banded = decode(result, (100, 90), threshold=0.5)
    assert np.array_equal(whole.labels, banded.labels)
    assert np.allclose(whole.scores, banded.scores, rtol=1e-3)


def test_threads_change_nothing():
    result = discs(1, 30, 20, (40, 40))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = decode(result, (300, 310))
        torch.set_num_threads(3)
        together = decode(result, (300, 310))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(alone.labels, together.labels)
    assert np.allclose(alone.scores, together.scores, rtol=1e-3)


def test_the_first_of_equal_classes_wins():
    result = discs(2, 12, 6, (16, 16))
    twice = MaskScores(result.masks, torch.cat([result.scores, result.scores], dim=2))
    assert np.array_equal(decode(twice, (130, 120)).labels, decode(result, (130, 120)).labels)


@pytest.mark.parametrize("background", [False, True])
def test_background_and_threshold_leave_pixels_unlabelled(background):
    result = discs(4, 15, 5, (16, 16))
    result = MaskScores(result.masks, result.scores, background)
    labels, shares = decode(result, (90, 90), threshold=0.6)
    sums, weight = plainly(result, (90, 90))
    share, winner = (sums / weight).max(dim=0)
    clear = (share - 0.6).abs() > 1e-3
    expected = torch.where((share < 0.6) | (background & (winner == 4)), 255, winner)
    assert (labels == expected.numpy())[clear.numpy()].all()
    assert (labels == 255).any()
    assert shares.dtype == np.float16


def test_no_masks_at_all_give_the_first_class():
    result = MaskScores(torch.zeros(1, 0, 4, 4), torch.zeros(1, 0, 3))
    labels, shares = decode(result, (20, 20))
    assert (labels == 0).all()
    assert (shares == 0).all()


def test_infinite_masks_are_nowhere_or_everywhere():
    result = discs(0, 4, 3, (8, 8))
    masks = result.masks.clone()
    masks[:, 0], masks[:, 1] = float("-inf"), float("inf")
    finite = masks.clamp(-1e4, 1e4)
    first, second = (
        decode(MaskScores(masks, result.scores), (50, 50)),
        decode(MaskScores(finite, result.scores), (50, 50)),
    )
    assert np.array_equal(first.labels, second.labels)
    assert np.isfinite(first.scores).all()


@pytest.mark.parametrize("where", ["masks", "scores"])
def test_what_is_no_number_is_refused(where):
    result = discs(0, 4, 3, (8, 8))
    getattr(result, where)[0, 1, 1] = float("nan")
    with pytest.raises(LexisegError, match=r"numbers of the masks are NaN.*fp32"):
        decode(result, (32, 32))


def test_few_classes_and_masks_are_looked_at_in_each_cell():
    """The point of it all: of 100 masks and 171 classes next to nothing is left within a cell."""
    result = discs(0, 100, 171, (32, 32))
    decoder = Decoder(*axes((32, 32), (256, 256)), 171, shares=True)
    taken = []
    original = module._Pruned.fill

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(
            module._Pruned, "fill", lambda self, *band: taken.append(original(self, *band)) or taken[-1]
        )
        module.draw(result, decoder)
    assert taken
    assert all(taken)
    assert np.array_equal(decoder.finish().labels, plainly(result, (256, 256))[0].argmax(0).numpy())


def test_both_paths_agree(monkeypatch):
    result = discs(5, 40, 30, (32, 30))
    with_kernel = decode(result, (200, 210))
    monkeypatch.setattr(decoding, "_kernels", lambda: None)
    without = decode(result, (200, 210))
    assert (with_kernel.labels != without.labels).mean() < 1e-4
    assert np.allclose(with_kernel.scores, without.scores, rtol=2e-3)
