"""Masks on a grid become masks at pixels, and those of several pictures one batch."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from lexiseg.proposals._proposals import CERTAIN, SURE, Proposals


def some(batch: int = 2, count: int = 3) -> Proposals:
    generator = torch.Generator().manual_seed(0)
    masks = 4 * torch.randn(batch, count, 5, 7, generator=generator)
    return Proposals(masks, torch.rand(batch, count, generator=generator) < 0.6)


def test_logits_are_interpolated_and_then_become_probabilities() -> None:
    found = some().at((20, 21))
    expected = functional.interpolate(some().masks, (20, 21), mode="bilinear", align_corners=False).sigmoid()
    assert torch.allclose(found[some().valid], expected[some().valid])
    assert (found[~some().valid] == 0).all()
    for place in range(2):
        assert torch.allclose(some().of_image(place, (20, 21)), expected[place][some().valid[place]])


def test_a_picture_without_valid_masks_has_none() -> None:
    none = Proposals(some().masks, torch.zeros(2, 3, dtype=torch.bool))
    assert none.of_image(0, (4, 4)).shape == (0, 4, 4)
    assert (none.at((4, 4)) == 0).all()


def test_weights_come_back_as_the_sigmoid_of_the_logits() -> None:
    weights = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    weights[0, 1] = 0
    found = Proposals.of_weights(weights)
    assert found.valid.tolist() == [[True, False, True], [True, True, True]]
    assert torch.allclose(found.masks.float().sigmoid(), weights, atol=2e-3)
    sure = Proposals.of_weights(torch.tensor([[[[True, False]]]]))
    assert sure.masks.tolist() == [[[[SURE, -SURE]]]]


def test_between_two_cells_a_mask_fades_and_is_not_cut_off() -> None:
    """Where half precise certainty would leave no weight at all just beyond a mask's cell."""
    weights = Proposals.of_weights(torch.tensor([[[[1.0, 0.0]]]])).at((1, 40))[0, 0, 0]
    assert (weights > 1e-5).all()
    assert (np.diff(weights.numpy()) <= 0).all()


def test_batches_of_different_numbers_of_masks_are_padded() -> None:
    one, other = some(1, 2), some(2, 4)
    found = Proposals.batch([one, other])
    assert found.masks.shape == (3, 4, 5, 7)
    assert found.valid[0].tolist() == [*one.valid[0].tolist(), False, False]
    assert torch.equal(found.masks[1:], other.masks)
    assert torch.equal(found.of_image(0, (9, 9)), one.of_image(0, (9, 9)))


def test_parts_of_label_maps_are_certain() -> None:
    found = Proposals.of_labels(torch.tensor([[[0, 1], [-1, 1]]]))
    assert found.masks.abs().unique().tolist() == [CERTAIN]
    assert found.at((2, 2))[0, :, 1, 0].tolist() == [0, 0]
