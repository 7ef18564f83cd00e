"""Computes MaskFormer's loss of classes and masks.

Every query has a class or none, and the mask of its class (zsseg.md §4.3).

Letters: S decoder layers, B images, N queries, C classes, K pairs, h w grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.losses.matching import Costs, Matches, Targets, match

__all__ = ["LossWeights", "Norms", "mask_classification"]


@dataclass(frozen=True)
class LossWeights:
    """Of the three losses; and of "no object" among the classes, where a class has 1."""

    classes: float = 1.0
    focal: float = 20.0
    dice: float = 1.0
    no_object: float = 0.1


@dataclass(frozen=True)
class Norms:
    """What sums over a batch are divided by: the number of masks, and the weights of all queries' classes.

    Both are those of the whole step, whatever pieces and processes it is cut into: their means over the processes,
    times the share of the batch that is summed here.
    """

    masks: float
    classes: float

    @classmethod
    def of(
        cls, masks: int, queries: int, weights: LossWeights, average: Callable[[Tensor], Tensor] = lambda own: own
    ) -> Norms:
        """masks, queries: of this process's batch. average: the mean of numbers over the processes."""
        own = torch.tensor([float(masks), masks + weights.no_object * (queries - masks)])
        found, classes = average(own).tolist()
        return cls(max(1.0, found), max(classes, torch.finfo(torch.float32).tiny))

    def piece(self, share: float) -> Norms:
        """Of a piece that has this share of the batch's samples, 0-1."""
        return Norms(self.masks * share, self.classes * share)


def mask_classification(
    masks: Tensor,
    logits: Tensor,
    targets: Targets,
    covers: Sequence[int],
    norms: Norms,
    *,
    costs: Costs,
    weights: LossWeights,
    spare_unlabelled: bool = False,
    on_grid: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of all decoder layers together, and the mean dice loss of the last layer's pairs.

    masks: logits [S, B, N, h, w], whose grid spans `covers` pixels. logits: of the classes, "no object" last
    [S, B, N, C + 1]. spare_unlabelled: a query without a partner is "no object" only as far as its mask lies on pixels
    with a label, since on the others it may have found something. on_grid: compare masks with labels on the masks'
    grid, and not at the labels' size, which takes a sixteenth of the work at stride 4.
    """
    matches = match(masks, targets, covers, classes=logits.detach().softmax(-1)[..., :-1], costs=costs)
    grid = masks.shape[-2:]
    compared = (targets.at(grid, covers), grid) if on_grid else (targets, covers)
    of_focal, of_dice = matches.losses(masks, *compared)
    losses = {
        "classes": weights.classes * _classes(masks, logits, matches, targets, covers, weights, spare_unlabelled)
        / norms.classes,
        "focal": weights.focal * of_focal.sum() / norms.masks,
        "dice": weights.dice * of_dice.sum() / norms.masks,
    }  # fmt: skip
    last = of_dice.detach()[matches.layer == len(masks) - 1]
    return losses, last.mean() if len(last) else last.new_ones(())


def _classes(
    masks: Tensor,
    logits: Tensor,
    matches: Matches,
    targets: Targets,
    covers: Sequence[int],
    weights: LossWeights,
    spare_unlabelled: bool,
) -> Tensor:
    """The weighted sum of the cross-entropies of all queries."""
    place = (matches.layer, matches.image, matches.query)
    nothing = logits.shape[-1] - 1
    wanted = torch.full(logits.shape[:-1], nothing, device=logits.device)
    wanted[place] = matches.number
    weight = torch.full(logits.shape[:-1], weights.no_object, device=logits.device)
    if spare_unlabelled:
        weight = weight * _share_on(masks.detach(), targets.at(masks.shape[-2:], covers).known)
    weight[place] = 1.0
    each = functional.cross_entropy(logits.float().flatten(0, 2), wanted.flatten(), reduction="none")
    return (each * weight.flatten()).sum()


def _share_on(masks: Tensor, known: Tensor) -> Tensor:
    """How much of each mask [S, B, N, h, w] lies on pixels that are known [B, h, w]: [S, B, N]."""
    inside = masks.float().sigmoid()
    on_known = torch.einsum("sbnhw,bhw->sbn", inside, known.to(inside))
    return on_known / inside.sum((-2, -1)).clamp(min=1e-6)
