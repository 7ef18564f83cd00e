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
    share = by_hand.max(1) / likely.sum(1)  # the posterior, as in a label map
    some = float(np.median(share))
    found = fill(holes, MaskScores(masks, scores), range(6), ignore=255, confidence=some)
    assert (found.numpy() == np.where(share < some, 255, by_hand.argmax(1))).all()


def test_linear_masks_are_weights_as_they_are() -> None:
    masks = torch.tensor([[[[0.3, 0.9]], [[0.6, 0.0]]]])  # [1, 2, 1, 2]
    scores = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
    found = fill(labels(-1, -1), MaskScores(masks, scores, weights="linear"), [4, 7], ignore=255)
    assert found.tolist() == [[[7, 4]]]  # 0.39 against 0.51, 0.81 against 0.09


@pytest.mark.parametrize("covers", [(8, 12), (12, 8), (5, 7)])
def test_a_grid_that_covers_more_or_less_is_cut_or_continued(covers: tuple[int, int]) -> None:
    scores = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = upsample(scores, (6, 9), covers=covers)[0]
    across = [np.interp((np.arange(9) + 0.5) * 5 / covers[1] - 0.5, np.arange(5), one) for one in np.eye(5)]
    down = [np.interp((np.arange(6) + 0.5) * 4 / covers[0] - 0.5, np.arange(4), one) for one in np.eye(4)]
    expected = np.einsum("hy,chw,wx->cyx", np.array(down), scores[0].numpy(), np.array(across))
    assert np.allclose(found.numpy(), expected, atol=1e-5)
    filled = fill(torch.full((1, 6, 9), UNLABELLED), DenseLogits(scores, covers=covers), range(3), ignore=255)
    assert (filled[0].numpy() == found.numpy().argmax(0)).all()


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
