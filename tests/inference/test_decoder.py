"""The fused decoder against upsampling everything and taking the argmax, on both of its paths."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.errors import LexisegError
from lexiseg.inference import canvas, decoder
from lexiseg.inference.decoder import Decoder
from lexiseg.inference.labelling import decode
from lexiseg.inference.upsample import axes
from lexiseg.segmenter import DenseLogits, MaskScores

PATHS = ["numba", "torch"]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Runs a test with the kernel, and again as where numba is not installed."""
    choose(request.param, monkeypatch)
    return request.param


def choose(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "torch":
        monkeypatch.setattr(decoder, "_kernels", lambda: None)
    else:
        pytest.importorskip("numba")


def upsampled(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(values.double(), size=size, mode="bilinear", align_corners=False)[0]


def check(logits: torch.Tensor, size: tuple[int, int]) -> None:
    """Each label's logit is the largest, and each score is its softmax."""
    labels, scores = decode(DenseLogits(logits), size)
    full = upsampled(logits, size)  # [C, H, W]
    chosen = torch.from_numpy(labels.astype(np.int64))
    value = full.gather(0, chosen[None])[0]
    best = full.max(dim=0).values
    scale = logits.abs().max().clamp(min=1)
    assert (best - value <= 1e-5 * scale).all()
    posterior = full.softmax(dim=0).gather(0, chosen[None])[0].numpy()
    assert np.allclose(scores, posterior, rtol=2e-3, atol=1e-6 * float(scale))


def random_logits(kind: str, seed: int, channels: int, grid: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, channels, *grid, generator=generator)
    if kind == "ties":
        return (2 * logits).round()
    if kind == "steep":  # neighbours that differ by more than exp can say
        return 300 * logits
    if kind == "removed":  # as prompt denoising removes classes
        return torch.where(torch.rand(1, channels, 1, 1, generator=generator) < 0.5, -1e4, 10 * logits)
    return {"flat": 0.1, "clip": 8.0}[kind] * logits


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["flat", "clip", "ties", "steep", "removed"]),
    seed=st.integers(0, 10_000),
    channels=st.integers(1, 9),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_labels_and_posteriors_are_those_of_the_naive_way(path, kind, seed, channels, grid, size):
    with pytest.MonkeyPatch.context() as monkeypatch:
        choose(path, monkeypatch)
        check(random_logits(kind, seed, channels, grid), size)


@pytest.mark.parametrize("kind", ["clip", "steep"])
@pytest.mark.parametrize(
    ("grid", "size"),
    [((2, 3), (300, 211)), ((32, 32), (512, 512)), ((40, 30), (20, 13)), ((50, 50), (50, 50)), ((1, 1), (70, 3))],
)
def test_many_classes_long_cells_and_shrinking(path, kind, grid, size):
    check(random_logits(kind, 0, 60, grid), size)


def test_the_first_of_equal_classes_wins(path):
    logits = random_logits("clip", 3, 5, (7, 6))
    labels, _ = decode(DenseLogits(torch.cat([logits, logits], dim=1)), (64, 50))
    assert labels.max() < 5


def test_one_class_takes_every_pixel_with_certainty(path):
    labels, scores = decode(DenseLogits(torch.randn(1, 1, 4, 4)), (33, 20))
    assert (labels == 0).all()
    assert (scores == 1).all()


@pytest.mark.parametrize(("channels", "dtype"), [(255, np.uint8), (256, np.uint16), (300, np.uint16)])
def test_label_maps_widen_above_255_classes(path, channels, dtype):
    logits = torch.zeros(1, channels, 3, 3)
    logits[:, -1] = 5
    labels, _ = decode(DenseLogits(logits), (12, 12))
    assert labels.dtype == dtype
    assert (labels == channels - 1).all()
    unlabelled, _ = decode(DenseLogits(logits), (12, 12), threshold=0.9999)
    assert (unlabelled == np.iinfo(dtype).max).all()


def test_the_background_needs_no_label_of_its_own(path):
    logits = torch.zeros(1, 256, 2, 2)
    logits[:, -1, 0] = 20
    logits[:, 3, 1] = 20
    labels, _ = decode(DenseLogits(logits, background=True), (20, 20))
    assert labels.dtype == np.uint8
    assert (labels[:10] == 255).all()
    assert (labels[10:] == 3).all()


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.95])
def test_pixels_below_the_threshold_stay_unlabelled(path, threshold):
    result = DenseLogits(random_logits("clip", 1, 6, (5, 5)) / 4)
    plain, scores = decode(result, (64, 64))
    labels, _ = decode(result, (64, 64), threshold=threshold)
    sure = scores.astype(float) > threshold * 1.001
    unsure = scores.astype(float) < threshold * 0.999
    assert sure.any()
    assert unsure.any()
    assert np.array_equal(labels[sure], plain[sure])
    assert (labels[unsure] == 255).all()


def test_a_threshold_works_without_asking_for_scores(path):
    result = DenseLogits(random_logits("clip", 1, 6, (5, 5)) / 4)
    labels, scores = decode(result, (40, 40), threshold=0.5, scores=False)
    assert scores is None
    assert np.array_equal(labels, decode(result, (40, 40), threshold=0.5).labels)


def test_both_paths_agree(monkeypatch):
    pytest.importorskip("numba")
    result = DenseLogits(random_logits("clip", 5, 40, (16, 11)))
    with_kernel = decode(result, (150, 170))
    choose("torch", monkeypatch)
    without = decode(result, (150, 170))
    assert (with_kernel.labels != without.labels).mean() < 1e-4
    assert np.allclose(with_kernel.scores, without.scores, rtol=2e-3)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("height", [7, 23, 90])
def test_bands_of_grid_rows_change_nothing(path, rows, height):
    logits = random_logits("clip", 2, 8, (13, 9))
    whole = decode(DenseLogits(logits), (height, 41))
    banded = Decoder(*axes((13, 9), (height, 41)), 8)
    for start in range(0, 13, rows):
        first = max(0, start - 1)
        banded.add(logits[0, :, first : start + rows], first)
    labels, scores = banded.finish()
    assert np.array_equal(labels, whole.labels)
    assert np.allclose(scores, whole.scores, rtol=1e-3)


def test_threads_change_nothing(path):
    result = DenseLogits(random_logits("clip", 2, 12, (20, 20)))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = decode(result, (320, 320))
        torch.set_num_threads(3)
        together = decode(result, (320, 320))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(alone.labels, together.labels)
    assert np.array_equal(alone.scores, together.scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_precision_are_decoded(path, dtype):
    logits = random_logits("clip", 4, 6, (5, 5)).to(dtype)
    expected = decode(DenseLogits(logits.float()), (30, 30))
    assert np.array_equal(decode(DenseLogits(logits), (30, 30)).labels, expected.labels)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused(path, wrong):
    logits = torch.zeros(1, 4, 3, 3)
    logits[0, 1, 2, 0] = wrong
    with pytest.raises(LexisegError, match=r"1 of 36 logits .* dtype='fp32'"):
        decode(DenseLogits(logits), (9, 9))


def test_minus_infinity_never_wins(path):
    logits = random_logits("clip", 6, 5, (6, 6))
    logits[:, 2] = float("-inf")
    logits[:, 0, :3] = float("-inf")
    labels, scores = decode(DenseLogits(logits), (60, 60))
    assert not (labels == 2).any()
    assert not (labels[:25] == 0).any()
    assert np.isfinite(scores).all()


def test_memory_does_not_hold_classes_times_pixels():
    pytest.importorskip("numba")
    result = DenseLogits(random_logits("clip", 7, 500, (16, 16)))
    decode(result, (64, 64))  # compiles
    tracemalloc.start()
    decode(result, (512, 512))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6 < 500 * 512 * 512 * 4 / 50


def test_numba_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "lexiseg.inference._kernels", raising=False)
    import lexiseg.inference

    monkeypatch.delattr(lexiseg.inference, "_kernels", raising=False)
    decoder._kernels.cache_clear()
    try:
        assert decoder._kernels() is None
        check(random_logits("clip", 0, 4, (3, 3)), (20, 20))
    finally:
        decoder._kernels.cache_clear()


def naive_masks(result: MaskScores, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    inside = upsampled(result.masks, size).sigmoid()
    sums = torch.einsum("nc,nyx->cyx", result.scores[0].double(), inside)
    return sums, inside.sum(0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    masks=st.integers(1, 6),
    channels=st.integers(1, 7),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_masks_are_upsampled_and_then_summed(seed, masks, channels, grid, size):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, masks, channels, generator=generator).softmax(-1)
    result = MaskScores(5 * torch.randn(1, masks, *grid, generator=generator), scores)
    labels, shares = decode(result, size)
    sums, weight = naive_masks(result, size)
    value = sums.gather(0, torch.from_numpy(labels.astype(np.int64))[None])[0]
    assert (sums.max(dim=0).values - value <= 1e-6).all()
    assert np.allclose(shares, value / weight, rtol=2e-3)


def test_bands_of_pixel_rows_change_no_mask(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(1, 9, 7, 6, generator=generator)
    result = MaskScores(masks, torch.rand(1, 9, 5, generator=generator), background=True)
    whole = decode(result, (80, 66), threshold=0.6)
    monkeypatch.setattr(canvas, "CHUNK", 3000)
    banded = decode(result, (80, 66), threshold=0.6)
    assert np.array_equal(whole.labels, banded.labels)
    assert np.array_equal(whole.scores, banded.scores)
    assert (whole.labels == 255).any()
