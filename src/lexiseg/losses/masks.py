"""Computes dice and focal losses of masks.

Only pixels that are known count.

Letters: M masks, P pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ALPHA", "GAMMA", "dice", "focal"]

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss, as MaskFormer's


def dice(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """One minus the dice coefficient of each mask, smoothed by one (Milletari et al., 2016; zsseg.md §4.3): [M].

    logits: [M, P]. targets: which pixels belong to it, 0 or 1 [M, P]. valid: which pixels count, 0 or 1 [M, P].
    """
    shares = logits.sigmoid() * valid
    inside = targets * valid
    return 1 - (2 * (shares * inside).sum(1) + 1) / (shares.sum(1) + inside.sum(1) + 1)


def focal(logits: Tensor, targets: Tensor, valid: Tensor, *, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """The sigmoid focal loss of each mask, its mean over the valid pixels (Lin et al., 2017; zsseg.md §4.3): [M].

    Zero where no pixel is valid. alpha: weight of the pixels inside, the others have 1 - alpha; gamma: how fast pixels
    that are right lose their weight.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = -torch.expm1(-entropy)  # one minus the probability of what is right
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    each = weight * wrong.pow(gamma) * entropy * valid
    return each.sum(1) / valid.sum(1).clamp(min=1)
