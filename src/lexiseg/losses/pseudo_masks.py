"""Compares MaskFormer's masks with maps without classes.

Each part of a map goes with the query that fits it best.

S-Seg's mask loss (docs/papers/s_seg.md §4.3): a pair costs what its mask loses, since there is no class, and a query
that got no part loses nothing. All images and decoder layers are compared at once, and the host waits for the device a
single time, for the costs.

Letters: S decoder layers, B images, N queries, T parts, K pairs, P = h w cells, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from lexiseg.losses.masks import ALPHA
from lexiseg.losses.matching import BAD, Costs, Matches, Targets

__all__ = ["PartLosses", "match_parts", "part_losses"]


class PartLosses(NamedTuple):
    """Sums over the pairs of each image, of all decoder layers [B], so that pieces of a batch can be put together.

    focal, dice: not weighted. parts: how many parts an image has, int64. overlap: the dice coefficients of the last
    layer's pairs, without gradient.
    """

    focal: Tensor
    dice: Tensor
    parts: Tensor
    overlap: Tensor


def part_losses(
    masks: Tensor, parts: Tensor, covers: Sequence[int], *, count: int, costs: Costs, on_grid: bool = False
) -> PartLosses:
    """What the masks of a batch lose against its parts.

    masks: logits [S, B, N, h, w], whose grid spans `covers` pixels.
    parts: the number of the part of each pixel, [B, H, W], from 0 up to, not including, `count`; others are unknown.
    on_grid: compare on the masks' own grid and not at the size of the parts, which is cheaper and coarser.
    """
    targets = Targets.of_labels(parts, count)
    small = targets.at(masks.shape[-2:], covers)
    matches = match_parts(masks, small, count=count, costs=costs)
    compared = (small, masks.shape[-2:]) if on_grid else (targets, covers)
    focal, dice = matches.losses(masks, *compared)
    batch = masks.shape[1]
    last = (matches.layer == len(masks) - 1).to(dice.dtype)

    def summed(each: Tensor) -> Tensor:
        return each.new_zeros(batch).index_add(0, matches.image, each)

    found = torch.tensor([len(each) for each in targets.numbers], device=masks.device)
    return PartLosses(summed(focal), summed(dice), found, summed((1 - dice.detach()) * last))


@torch.no_grad()
def match_parts(masks: Tensor, targets: Targets, *, count: int, costs: Costs) -> Matches:
    """The pairs that cost the least together, for each layer and image; as `losses.matching.match`, at once.

    masks: logits [S, B, N, h, w]. targets: on the masks' grid, their numbers below `count`.
    """
    valid = targets.valid.flatten(1)  # [B, P]
    known = torch.where(valid, targets.labels.flatten(1), count)
    inside = functional.one_hot(known, count + 1)[..., :count].float()  # [B, P, T]
    flat = masks.flatten(3)
    # a processor's cache holds what one image needs, and an accelerator wants all of them together
    some = 1 if masks.device.type == "cpu" else masks.shape[1]
    parts = (torch.split(flat, some, 1), torch.split(inside, some), torch.split(valid.float(), some))
    found = torch.cat([_costs(*each, costs) for each in zip(*parts, strict=True)], dim=1)  # [S, B, N, T]
    numbers = [each.tolist() for each in targets.numbers]
    pairs = []
    for layer, of_layer in enumerate(found.nan_to_num(BAD, BAD, BAD).cpu().numpy()):
        for image, (each, there) in enumerate(zip(of_layer, numbers, strict=True)):
            rows, columns = linear_sum_assignment(each[:, there])
            pairs += [(layer, image, row, there[column]) for row, column in zip(rows, columns, strict=True)]
    return Matches(*torch.tensor(pairs, dtype=torch.long, device=masks.device).reshape(-1, 4).unbind(1))


def _costs(masks: Tensor, inside: Tensor, valid: Tensor, costs: Costs) -> Tensor:
    """Of every query with every part: masks [S, B, N, P], inside [B, P, T], valid [B, P] -> [S, B, N, T].

    The focal loss of a cell is linear in whether it is inside, and the dice loss is made of sums over cells: both are
    products of two matrices.
    """
    masks, weight = masks.float(), valid[:, None]  # [B, 1, P]
    shares = masks.sigmoid()
    entropy = functional.softplus(masks)  # of a cell that should be outside; less the logit, of one inside
    outside = shares.square() * entropy
    gain = (ALPHA * (1 - shares).square() * (entropy - masks)).sub_(outside, alpha=1 - ALPHA)
    outside, gain, shares = outside.mul_(weight), gain.mul_(weight), shares.mul_(weight)
    focal = gain @ inside + (1 - ALPHA) * outside.sum(-1, keepdim=True)
    focal = focal / weight.sum(-1, keepdim=True).clamp(min=1)
    both = shares.sum(-1, keepdim=True) + inside.sum(1)[:, None]
    dice = 1 - (2 * shares @ inside + 1) / (both + 1)
    return costs.focal * focal + costs.dice * dice
