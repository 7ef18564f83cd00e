"""Holes in label maps are filled as described, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.data.labelled import dense
from lexiseg.losses.pseudo_labels import UNLABELLED, cross_entropy, fill, upsample
from lexiseg.segmenter import DenseLogits, MaskScores

SURE_THEN_NOT = DenseLogits(torch.tensor([[[[2.0, 0.1, 0.1]], [[0.0, 0.0, 0.0]]]]))  # [1, 2, 1, 3]


def labels(*row: int) -> Tensor:
    return torch.tensor([[row]])


def test_unlabelled_is_what_the_data_call_it() -> None:
    assert UNLABELLED == dense.UNLABELLED


def test_holes_get_the_label_that_the_best_channel_stands_for() -> None:
    assert fill(labels(-1, 3, 255), SURE_THEN_NOT, [4, 7], ignore=255).tolist() == [[[4, 3, 255]]]


def test_unlabelled_pixels_below_the_posterior_are_ignored() -> None:
    found = fill(labels(-1, -1, 3), SURE_THEN_NOT, [4, 7], ignore=255, confidence=0.6)
    assert found.tolist() == [[[4, 255, 3]]]


def test_everywhere_labels_go_too_by_the_score_itself() -> None:
    found = fill(labels(-1, -1, 3), SURE_THEN_NOT, [4, 7], ignore=255, confidence=1.5, everywhere=True)
    assert found.tolist() == [[[4, 255, 255]]]


def test_masks_count_by_their_share_and_after_they_are_upsampled() -> None:
    random = torch.Generator().manual_seed(0)
    masks, scores = torch.randn(2, 5, 3, 4, generator=random), torch.rand(2, 5, 6, generator=random)
    holes = torch.full((2, 9, 8), UNLABELLED)
    likely = 1 / (1 + np.exp(-upsample(masks, (9, 8)).double().numpy()))
    by_hand = np.einsum("bnhw,bnc->bchw", likely, scores.double().numpy())
    found = fill(holes, MaskScores(masks, scores), range(6), ignore=255)
    assert (found.numpy() == by_hand.argmax(1)).all()
    share = by_hand.max(1) / by_hand.sum(1)
    some = float(np.median(share))
    found = fill(holes, MaskScores(masks, scores), range(6), ignore=255, confidence=some)
    assert (found.numpy() == np.where(share < some, 255, by_hand.argmax(1))).all()


@pytest.mark.parametrize(("kept", "mean"), [(1, "valid"), (16, "all")])
def test_the_released_mean_shrinks_with_the_labels(kept: int, mean: str) -> None:
    """One pixel of sixteen has a label (maskclip_plus.md §3.5)."""
    scores = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.full((1, 4, 4), 255)
    targets[0, 2, 1] = 2
    own = -float(scores[0, :, 2, 1].log_softmax(0)[2])
    found = cross_entropy(scores, targets, ignore=255, mean=mean)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(own / kept, rel=1e-5)


def test_no_label_at_all_is_no_loss() -> None:
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = cross_entropy(scores, torch.full((1, 2, 2), 255), ignore=255)
    loss.backward()
    assert loss == 0
    assert scores.grad is not None
