"""Matches queries with the masks of a label map.

It is one to one, and its pairs say what they lose (zsseg.md §4.3).

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020; MaskFormer's costs. Every decoder layer of a
batch is matched by itself.

Letters: S decoder layers, B images, N queries, C classes, T masks of one image, K pairs, P = H W pixels, h w grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from lexiseg.losses import masks as of_masks
from lexiseg.losses.masks import ALPHA, GAMMA
from lexiseg.losses.pseudo_labels import upsample

__all__ = ["Costs", "Matches", "Targets", "costs_of", "match", "pairwise_dice", "pairwise_focal"]

BAD = 1e6  # the cost of a pair whose cost is not finite: taken last


@dataclass(frozen=True)
class Costs:
    """Weights of what a pair costs: minus the probability of its class, the focal and the dice loss of its mask."""

    classes: float = 1.0
    focal: float = 20.0
    dice: float = 1.0


@dataclass(frozen=True, eq=False)
class Targets:
    """The masks that each image should have.

    labels: whole numbers [B, H, W]. numbers: those of each image that are masks, [T] each.
    valid: the pixels that count [B, H, W]; the others may belong to any mask.
    known: the pixels that have a label, in a mask or not [B, H, W].
    """

    labels: Tensor
    numbers: tuple[Tensor, ...]
    valid: Tensor
    known: Tensor

    @classmethod
    def of_labels(cls, labels: Tensor, count: int, *, most: int | None = None, valid: Tensor | None = None) -> Targets:
        """One mask for each number from 0 up to, not including, `count`, that an image has.

        most: masks of one image, the largest ones; None is all. valid: None are the pixels with such a number.
        """
        known = (labels >= 0) & (labels < count)
        numbers = []
        for each, inside in zip(labels, known, strict=True):
            found, sizes = torch.unique(each[inside], return_counts=True)
            if most is not None and len(found) > most:
                found = found[sizes.argsort(descending=True, stable=True)[:most].sort().values]
            numbers.append(found)
        return cls(labels, tuple(numbers), known if valid is None else valid, known)

    @property
    def masks(self) -> int:
        """Of all images together."""
        return sum(map(len, self.numbers))

    def at(self, size: Sequence[int], covers: Sequence[int]) -> Targets:
        """On a grid of this size that spans `covers` pixels, by the pixel in the middle of each cell.

        The released code takes the one at its corner.
        """
        places = []
        for cells, spanned, side in zip(size, covers, self.labels.shape[-2:], strict=True):
            place = ((2 * torch.arange(cells, device=self.labels.device) + 1) * spanned) // (2 * cells)
            places.append((place.clamp(max=side - 1), place < side))
        (rows, inside_rows), (columns, inside_columns) = places
        inside = inside_rows[:, None] & inside_columns
        labels, valid, known = (each[:, rows[:, None], columns] for each in (self.labels, self.valid, self.known))
        return Targets(labels, self.numbers, valid & inside, known & inside)

    def of(self, image: int) -> tuple[Tensor, Tensor]:
        """The masks of one image [T, P] and its valid pixels [P], in float32."""
        flat = self.labels[image].flatten()
        masks = (flat == self.numbers[image][:, None]) & self.valid[image].flatten()
        return masks.float(), self.valid[image].flatten().float()


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of a query and a mask, [K] each: the decoder layer, the image, the query, and the mask's number."""

    layer: Tensor
    image: Tensor
    query: Tensor
    number: Tensor

    def losses(self, masks: Tensor, targets: Targets, covers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The focal and the dice loss of each pair's mask at the labels' size: two of [K].

        masks: logits [S, B, N, h, w], whose grid spans `covers` pixels.
        """
        size = targets.labels.shape[-2:]
        chosen = masks[self.layer, self.image, self.query]  # [K, h, w]
        full = upsample(chosen[:, None], size, covers=covers)[:, 0].flatten(1)  # [K, P]
        labels, valid = targets.labels[self.image].flatten(1), targets.valid[self.image].flatten(1).float()
        inside = (labels == self.number[:, None]).float() * valid
        return of_masks.focal(full, inside, valid), of_masks.dice(full, inside, valid)


@torch.no_grad()
def match(
    masks: Tensor, targets: Targets, covers: Sequence[int], *, classes: Tensor | None = None, costs: Costs
) -> Matches:
    """The pairs that cost the least together, for each layer and image.

    masks: logits [S, B, N, h, w]. classes: probabilities of the numbers of `targets` [S, B, N, C]; None where masks
    alone count. An image with more masks than queries leaves some of its masks unmatched.
    """
    small = targets.at(masks.shape[-2:], covers)
    pairs: list[tuple[int, int, int, int]] = []
    for image, numbers in enumerate(targets.numbers):
        if not len(numbers):
            continue
        probabilities = None if classes is None else classes[:, image].float()[..., numbers]  # [S, N, T]
        cost = costs_of(masks[:, image].float().flatten(2), *small.of(image), probabilities, costs)
        for layer, each in enumerate(cost.nan_to_num(BAD, BAD, BAD).cpu().numpy()):
            rows, columns = linear_sum_assignment(each)
            named = numbers[torch.from_numpy(columns).to(numbers.device)].tolist()
            pairs += [(layer, image, int(row), number) for row, number in zip(rows, named, strict=True)]
    found = torch.tensor(pairs, dtype=torch.long, device=masks.device).reshape(-1, 4)
    return Matches(*found.unbind(1))


def costs_of(masks: Tensor, targets: Tensor, valid: Tensor, classes: Tensor | None, costs: Costs) -> Tensor:
    """Of every query with every mask [S, N, T]; masks [S, N, P], targets [T, P], valid [P], classes [S, N, T]."""
    cost = costs.focal * pairwise_focal(masks, targets, valid) + costs.dice * pairwise_dice(masks, targets, valid)
    return cost if classes is None else cost - costs.classes * classes


def pairwise_dice(masks: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """`losses.masks.dice` of every pair: logits [S, N, P] and masks [T, P] -> [S, N, T]."""
    shares, inside = masks.sigmoid() * valid, targets * valid
    return 1 - (2 * shares @ inside.T + 1) / (shares.sum(2, keepdim=True) + inside.sum(1) + 1)


def pairwise_focal(masks: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """`losses.masks.focal` of every pair: logits [S, N, P] and masks [T, P] -> [S, N, T]."""
    shares = masks.sigmoid()
    inside = ALPHA * (1 - shares).pow(GAMMA) * functional.softplus(-masks) * valid
    outside = (1 - ALPHA) * shares.pow(GAMMA) * functional.softplus(masks) * valid
    summed = inside @ targets.T + outside @ (1 - targets).T
    return summed / valid.sum().clamp(min=1)
