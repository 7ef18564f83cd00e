"""Parts against every assignment, MaskFormer's matcher and losses in transformers, and one pair at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.maskformer.modeling_maskformer import dice_loss, sigmoid_focal_loss

from lexiseg.losses.masks import dice, focal
from lexiseg.losses.matching import Costs, Matches, Targets, match
from lexiseg.losses.pseudo_masks import match_parts, part_losses

COSTS = Costs(classes=0.0, focal=20.0, dice=1.0)
LAYERS, BATCH, QUERIES, PARTS, SIDE = 2, 3, 5, 4, 8


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Masks [S, B, N, h, w] and parts [B, 2 h, 2 w]; the second image lacks a part, the third has unknown pixels."""
    random = torch.Generator().manual_seed(seed)
    masks = 3 * torch.randn(LAYERS, BATCH, QUERIES, SIDE, SIDE, generator=random)
    parts = (
        torch.randint(0, PARTS, (BATCH, SIDE, SIDE), generator=random).repeat_interleave(2, 1).repeat_interleave(2, 2)
    )
    parts[1][parts[1] == 2] = 0
    parts[2, :6] = 255
    return masks, parts


def pairs(found: Matches) -> list[tuple[int, ...]]:
    return sorted(zip(*(each.tolist() for each in (found.layer, found.image, found.query, found.number)), strict=True))


def test_pairs_are_those_of_the_matching_one_image_at_a_time() -> None:
    for seed in range(3):
        masks, parts = drawn(seed)
        targets, covers = Targets.of_labels(parts, PARTS), (2 * SIDE, 2 * SIDE)
        small = targets.at((SIDE, SIDE), covers)
        assert pairs(match_parts(masks, small, count=PARTS, costs=COSTS)) == pairs(
            match(masks, targets, covers, costs=COSTS)
        )


def test_no_other_assignment_costs_less() -> None:
    """Every way to give the parts of an image to queries, with the losses of single masks."""
    masks, parts = drawn()
    small = Targets.of_labels(parts, PARTS).at((SIDE, SIDE), (2 * SIDE, 2 * SIDE))
    found = match_parts(masks, small, count=PARTS, costs=COSTS)
    for layer, image in np.ndindex(LAYERS, BATCH):
        inside, valid = small.of(image)
        cost = np.array([
            [
                20 * float(focal(mask.flatten()[None], part[None], valid[None]))
                + float(dice(mask.flatten()[None], part[None], valid[None]))
                for part in inside
            ]
            for mask in masks[layer, image]
        ])  # fmt: skip
        best = min(
            cost[list(order), range(len(inside))].sum() for order in itertools.permutations(range(QUERIES), len(inside))
        )
        mine = (found.layer == layer) & (found.image == image)
        places = [small.numbers[image].tolist().index(number) for number in found.number[mine].tolist()]
        assert sorted(places) == list(range(len(inside)))  # each part has one query
        assert cost[found.query[mine].tolist(), places].sum() == pytest.approx(best, rel=1e-5)


def test_the_losses_are_maskformers_in_transformers() -> None:
    """Of the last layer's pairs at the parts' size; there they are divided by the number of masks."""
    masks, parts = drawn()
    masks, parts = masks[-1:, :1], parts[:1]
    covers = (2 * SIDE, 2 * SIDE)
    found = part_losses(masks, parts, covers, count=PARTS, costs=COSTS)
    chosen = match_parts(masks, Targets.of_labels(parts, PARTS).at((SIDE, SIDE), covers), count=PARTS, costs=COSTS)
    full = functional.interpolate(masks[0], covers, mode="bilinear")[0, chosen.query].flatten(1)
    truth = (parts[0] == chosen.number[:, None, None]).float().flatten(1)
    count = len(truth)
    assert int(found.parts) == count
    assert float(found.focal / count) == pytest.approx(float(sigmoid_focal_loss(full, truth, count)), rel=1e-5)
    assert float(found.dice / count) == pytest.approx(float(dice_loss(full, truth, count)), rel=1e-5)


def test_each_image_loses_what_it_would_alone() -> None:
    masks, parts = drawn()
    for on_grid in (False, True):
        together = part_losses(masks, parts, (16, 16), count=PARTS, costs=COSTS, on_grid=on_grid)
        for image in range(BATCH):
            alone = part_losses(
                masks[:, image, None], parts[image, None], (16, 16), count=PARTS, costs=COSTS, on_grid=on_grid
            )
            for all_of_them, one in zip(together, alone, strict=True):
                assert torch.allclose(all_of_them[image].float(), one[0].float(), atol=1e-5)
    assert together.parts.tolist() == [4, 3, len(set(parts[2, 6:].flatten().tolist()))]


def test_masks_that_are_the_parts_lose_nothing_whatever_the_other_queries_are() -> None:
    _, parts = drawn()
    small = parts[:, ::2, ::2]
    perfect = torch.where(small[:, None] == torch.arange(QUERIES).view(1, -1, 1, 1), 50.0, -50.0)
    perfect[:, PARTS:] = torch.randn(BATCH, QUERIES - PARTS, SIDE, SIDE)  # without a part: no penalty
    found = part_losses(perfect[None], parts, (16, 16), count=PARTS, costs=COSTS, on_grid=True)
    assert torch.allclose(found.focal, torch.zeros(BATCH), atol=1e-5)
    assert torch.allclose(found.dice, torch.zeros(BATCH), atol=1e-4)
    assert torch.allclose(found.overlap, found.parts.float(), atol=1e-4)


def test_unmatched_queries_and_unknown_pixels_get_no_gradient() -> None:
    masks, parts = drawn()
    masks.requires_grad_()
    found = part_losses(masks, parts, (16, 16), count=PARTS, costs=COSTS, on_grid=True)
    (found.focal.sum() + found.dice.sum()).backward()
    assert masks.grad is not None
    small = Targets.of_labels(parts, PARTS).at((SIDE, SIDE), (16, 16))
    chosen = match_parts(masks.detach(), small, count=PARTS, costs=COSTS)
    taken = torch.zeros(LAYERS, BATCH, QUERIES, dtype=torch.bool)
    taken[chosen.layer, chosen.image, chosen.query] = True
    moved = masks.grad.abs()
    assert (moved[~taken] == 0).all()
    assert (moved[taken].flatten(1).sum(1) > 0).all()
    assert (moved[:, 2][..., ~small.valid[2]] == 0).all()


def test_an_image_without_a_part_loses_nothing() -> None:
    masks, parts = drawn()
    parts[0] = 255
    found = part_losses(masks, parts, (16, 16), count=PARTS, costs=COSTS)
    assert (int(found.parts[0]), float(found.focal[0]), float(found.dice[0])) == (0, 0.0, 0.0)
    assert found.parts[1] > 0
