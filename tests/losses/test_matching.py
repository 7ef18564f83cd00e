"""Matching against every permutation, transformers' matcher, and losses of one pair at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher

from lexiseg.losses.masks import dice, focal
from lexiseg.losses.matching import Costs, Targets, costs_of, match, pairwise_dice, pairwise_focal

COSTS = Costs()
CLASSES = 6


def drawn(layers: int = 2, queries: int = 4, side: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Masks [S, B, N, h, w], probabilities [S, B, N, C] and label maps [B, H, W] of twice the side."""
    random = torch.Generator().manual_seed(3)
    masks = 3 * torch.randn(layers, 2, queries, side, side, generator=random)
    classes = torch.randn(layers, 2, queries, CLASSES, generator=random).softmax(-1)
    coarse = torch.randint(0, 4, (2, 4, 4), generator=random)
    labels = coarse.repeat_interleave(side // 2, 1).repeat_interleave(side // 2, 2)
    return masks, classes, labels


def test_pairs_cost_what_the_losses_of_one_mask_are() -> None:
    random = torch.Generator().manual_seed(0)
    masks = torch.randn(2, 3, 20, generator=random)
    targets = (torch.rand(4, 20, generator=random) > 0.5).float()
    valid = (torch.rand(20, generator=random) > 0.3).float()
    for pairwise, single in ((pairwise_dice, dice), (pairwise_focal, focal)):
        found = pairwise(masks, targets, valid)
        for layer, query, target in np.ndindex(2, 3, 4):
            wanted = single(masks[layer, query][None], targets[target][None], valid[None])
            assert torch.allclose(found[layer, query, target], wanted[0], atol=1e-6)


def test_no_other_assignment_costs_less() -> None:
    masks, classes, labels = drawn()
    targets = Targets.of_labels(labels, CLASSES)
    found = match(masks, targets, (16, 16), classes=classes, costs=COSTS)
    small = targets.at((8, 8), (16, 16))
    for layer, image in np.ndindex(2, 2):
        inside, valid = small.of(image)
        numbers = targets.numbers[image]
        cost = costs_of(
            masks[layer, image].flatten(1)[None], inside, valid, classes[layer, image][None][..., numbers], COSTS
        )[0]
        best = min(
            sum(float(cost[query, place]) for place, query in enumerate(order))
            for order in itertools.permutations(range(masks.shape[2]), len(numbers))
        )
        mine = (found.layer == layer) & (found.image == image)
        ours = sum(
            float(cost[int(query), numbers.tolist().index(int(number))])
            for query, number in zip(found.query[mine], found.number[mine], strict=True)
        )
        assert int(mine.sum()) == len(numbers)
        assert abs(ours - best) < 1e-5


def test_it_matches_as_transformers_does() -> None:
    masks, _, labels = drawn()
    logits = torch.randn(2, 2, 4, CLASSES + 1, generator=torch.Generator().manual_seed(5))
    targets = Targets.of_labels(labels, CLASSES)
    found = match(masks, targets, (16, 16), classes=logits.softmax(-1)[..., :-1], costs=COSTS)
    matcher: Any = MaskFormerHungarianMatcher(cost_class=1.0, cost_mask=20.0, cost_dice=1.0)
    for layer in range(2):
        theirs = matcher(
            masks[layer],
            logits[layer],
            [(labels[image] == targets.numbers[image][:, None, None]).float() for image in range(2)],
            list(targets.numbers),
        )
        for image, (queries, places) in enumerate(theirs):
            mine = (found.layer == layer) & (found.image == image)
            wanted = set(zip(queries.tolist(), targets.numbers[image][places].tolist(), strict=True))
            assert set(zip(found.query[mine].tolist(), found.number[mine].tolist(), strict=True)) == wanted


def test_losses_are_those_of_each_pair_at_the_size_of_the_labels() -> None:
    masks, classes, labels = drawn()
    labels = labels.clone()
    labels[0, :3] = -1
    targets = Targets.of_labels(labels, CLASSES)
    found = match(masks, targets, (16, 16), classes=classes, costs=COSTS)
    of_focal, of_dice = found.losses(masks, targets, (16, 16))
    for pair in range(len(found.layer)):
        layer, image, query = (int(each[pair]) for each in (found.layer, found.image, found.query))
        full = functional.interpolate(masks[layer, image, query][None, None], (16, 16), mode="bilinear")[0, 0]
        inside, valid = (labels[image] == found.number[pair]), labels[image] >= 0
        given = full[valid][None], inside[valid].float()[None], torch.ones(1, int(valid.sum()))
        assert torch.allclose(of_focal[pair], focal(*given)[0], atol=1e-6)
        assert torch.allclose(of_dice[pair], dice(*given)[0], atol=1e-6)


def test_what_lies_on_unlabelled_pixels_changes_nothing() -> None:
    masks, classes, labels = drawn()
    labels = labels.clone()
    labels[:, 8:] = -1  # the lower half
    targets = Targets.of_labels(labels, CLASSES)
    other = masks.clone()
    other[..., 5:, :] = 30 * torch.randn_like(other[..., 5:, :])  # a row away, since masks are interpolated
    one, two = (match(each, targets, (16, 16), classes=classes, costs=COSTS) for each in (masks, other))
    assert torch.equal(one.query, two.query)
    assert torch.allclose(one.losses(masks, targets, (16, 16))[0], two.losses(other, targets, (16, 16))[0])
    everywhere = Targets.of_labels(labels, CLASSES, valid=torch.ones_like(labels, dtype=torch.bool))
    released = match(other, everywhere, (16, 16), classes=classes, costs=COSTS)
    assert not torch.allclose(released.losses(other, everywhere, (16, 16))[0], one.losses(masks, targets, (16, 16))[0])


def test_a_padded_grid_is_not_stretched() -> None:
    """Labels of 16 x 16 under a grid that spans 32 x 32: a mask at known pixels matches the label at those pixels."""
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[0, 4:12, 8:16] = 1
    targets = Targets.of_labels(labels, CLASSES)
    masks = torch.full((1, 1, 2, 8, 8), -20.0)
    masks[0, 0, 1, 1:3, 2:4] = 20.0  # cells of four pixels
    small = targets.at((8, 8), (32, 32))
    assert torch.equal(small.labels[0, :4, :4] == 1, masks[0, 0, 1, :4, :4] > 0)
    assert not small.valid[0, 4:].any()
    assert not small.valid[0, :, 4:].any()
    found = match(masks, targets, (32, 32), costs=COSTS)
    assert dict(zip(found.number.tolist(), found.query.tolist(), strict=True))[1] == 1
    loss = found.losses(masks, targets, (32, 32))[1]
    assert float(loss[found.number == 1]) < 0.2


def test_images_without_masks_and_with_more_masks_than_queries() -> None:
    masks, classes, labels = drawn(queries=2)
    labels = labels.clone()
    labels[1] = -1
    targets = Targets.of_labels(labels, CLASSES)
    found = match(masks, targets, (16, 16), classes=classes, costs=COSTS)
    assert set(found.image.tolist()) == {0}
    assert len(found.layer) == 2 * 2
    few = Targets.of_labels(labels, CLASSES, most=2)
    sizes = torch.bincount(labels[0].flatten(), minlength=CLASSES)
    assert set(few.numbers[0].tolist()) == set(sizes.topk(2).indices.tolist())
    assert few.masks == 2
    nothing = Targets.of_labels(torch.full((2, 16, 16), 255), CLASSES)
    assert len(match(masks, nothing, (16, 16), classes=classes, costs=COSTS).layer) == 0


def test_costs_that_are_not_finite_are_taken_last() -> None:
    masks, classes, labels = drawn()
    masks[0, 0, 1] = float("nan")
    found = match(masks, Targets.of_labels(labels, CLASSES, most=3), (16, 16), classes=classes, costs=COSTS)
    assert 1 not in found.query[(found.layer == 0) & (found.image == 0)].tolist()
