"""Classes without a score are left out and change nothing: every label and posterior is that of all classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lexiseg.inference import decoder as decoding
from lexiseg.inference import masks
from lexiseg.inference.blending import blend
from lexiseg.inference.canvas import Canvas
from lexiseg.inference.channels import only, shown
from lexiseg.inference.decoder import Decoder
from lexiseg.inference.posterior import Posterior
from lexiseg.inference.upsample import axes
from lexiseg.inference.windows import Box, boxes
from lexiseg.segmenter import DenseLogits, MaskScores

from . import plain

CLASSES, REGIONS, GRID = 40, 6, (20, 28)
RESIZED = (20, 44)
SIZES = [(20, 44), (33, 61), (7, 11)]


@pytest.fixture(params=["numba", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(decoding, "_kernels", lambda: None)
    else:
        pytest.importorskip("numba")
    return str(request.param)


def regions(classes: list[int], *, seed: int = 0, background: bool = True, channels: int = CLASSES) -> MaskScores:
    """A region for every pixel, each with scores of a few classes, and maybe of the background (the last)."""
    random = torch.Generator().manual_seed(seed)
    soft = functional.interpolate(torch.randn(1, REGIONS, 4, 5, generator=random), GRID, mode="bilinear")
    masks = functional.one_hot(soft.argmax(1), REGIONS).permute(0, 3, 1, 2).float()
    scores = torch.zeros(1, REGIONS, channels)
    scores[..., classes] = torch.rand(1, REGIONS, len(classes), generator=random)
    if background:
        scores[0, ::2, -1] = 0.6
    return MaskScores(masks, scores, background, "linear")


def windows() -> list[tuple[Box, MaskScores]]:
    plan = boxes(RESIZED, 28, 16)
    assert len(plan) == 2
    return [(box, regions([3, 7 + 9 * place, 31], seed=place)) for place, box in enumerate(plan)]


def mean(size: tuple[int, int]) -> torch.Tensor:
    """[C, *size] in float64, by the definition; the sum of weights is 1 everywhere."""
    total, cover = torch.zeros(CLASSES, *RESIZED, dtype=torch.double), torch.zeros(RESIZED, dtype=torch.double)
    for box, result in windows():
        total[:, *box.slices] += plain.values_of(result, box.size)[0]
        cover[box.slices] += 1
    return plain.stretch(total / cover, size)


def check(decoder: Decoder, values: torch.Tensor) -> None:
    labels, scores = decoder.finish()
    winner = values.argmax(0)
    clear = values.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-5
    expected = torch.where(winner == CLASSES - 1, 255, winner)
    assert (torch.from_numpy(labels.astype(np.int64)) == expected)[clear].all()
    assert len(np.unique(labels)) > 2
    assert scores is None or np.allclose(scores, values.amax(0), atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scores", [True, False])
def test_windows_are_blended_as_with_all_classes(path: str, size: tuple[int, int], scores: bool) -> None:
    decoder = Decoder(*axes(RESIZED, size), CLASSES, background=True, shares=True, scores=scores)
    blend(iter(windows()), RESIZED, decoder, 3000)
    check(decoder, mean(size))


@pytest.mark.parametrize("size", SIZES)
def test_one_window_is_decoded_as_with_all_classes(path: str, size: tuple[int, int]) -> None:
    result = regions([3, 12, 31])
    decoder = Decoder(*axes(GRID, size), CLASSES, background=True, shares=True)
    masks.draw(result, decoder)
    check(decoder, plain.values_of(result, size)[0])


@pytest.mark.parametrize("channel", [0, 3, 5, CLASSES - 1])
def test_the_posterior_of_a_class_is_the_same_and_0_where_it_has_no_score(path: str, channel: int) -> None:
    size = (33, 61)
    found = Posterior(*axes(RESIZED, size), CLASSES, channel, shares=True)
    blend(iter(windows()), RESIZED, found, 3000)
    assert np.allclose(found.scores, mean(size)[channel], atol=1e-3)
    assert found.scores.any() == (channel not in (0, 5))


def test_a_threshold_counts_as_with_all_classes(path: str) -> None:
    decoder = Decoder(*axes(RESIZED, RESIZED), CLASSES, background=True, shares=True, threshold=0.5, scores=False)
    blend(iter(windows()), RESIZED, decoder, 3000)
    values = mean(RESIZED)
    labels, _ = decoder.finish()
    below = torch.from_numpy(labels == 255)
    clear = (values.amax(0) - 0.5).abs() > 1e-5
    unlabelled = (values.amax(0) < 0.5) | (values.argmax(0) == CLASSES - 1)
    assert (below == unlabelled)[clear].all()
    assert 0 < below.float().mean() < 1


def test_more_than_255_classes_keep_their_numbers(path: str) -> None:
    result = regions([3, 300, 700], channels=848, background=False)
    decoder = Decoder(*axes(GRID, GRID), 848, shares=True)
    masks.draw(result, decoder)
    labels, _ = decoder.finish()
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, plain.values_of(result, GRID)[0].argmax(0))
    assert {300, 700} & set(np.unique(labels))


def test_where_nothing_has_a_score_the_first_class_wins_with_posterior_0(path: str) -> None:
    result = replace(regions([]), scores=torch.zeros(1, REGIONS, CLASSES))
    decoder = Decoder(*axes(GRID, GRID), CLASSES, background=True, shares=True)
    masks.draw(result, decoder)
    labels, scores = decoder.finish()
    assert (labels == 0).all()
    assert scores is not None
    assert (scores == 0).all()


def test_only_what_can_win_is_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, fill = [], Canvas.fill

    def watched(self: Canvas, values: torch.Tensor, *rest: object) -> None:
        sums.append(len(values))
        fill(self, values, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Canvas, "fill", watched)
    decoder = Decoder(*axes(RESIZED, RESIZED), CLASSES, background=True, shares=True)
    blend(iter(windows()), RESIZED, decoder, 3000)
    assert max(sums) == 1 + 4 + 1 + 1  # the first class, the two windows' own, the background, and the weights


def test_what_could_win_is_never_left_out() -> None:
    two = [regions([3, 7], background=False), regions([9], seed=1)]
    assert torch.equal(shown(two), torch.tensor([0, 3, 7, 9, CLASSES - 1]))  # type: ignore[arg-type]
    assert torch.equal(only(two[0], torch.tensor([0, 7])).scores, two[0].scores[..., [0, 7]])  # type: ignore[union-attr]
    negative = replace(two[0], scores=two[0].scores - 0.1)  # then 0 may be the largest
    assert shown([negative]) is None
    assert shown([regions(list(range(CLASSES)))]) is None
    logits = DenseLogits(torch.zeros(1, CLASSES, *GRID))
    assert shown([logits]) is None
    assert only(logits, torch.tensor([0])) is logits
