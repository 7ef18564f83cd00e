"""Measures how a grouping method uses its groups.

That groups collapse is the known failure of such methods.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["usage"]


def usage(shares: Tensor) -> dict[str, float]:
    """Of the share of its patches that each image gives to each group [B, G], 1 in sum for each image; all 0-1.

    usage_entropy: over the patches of all images. 1 is all groups alike, 0 is one group for everything.
    image_entropy: within each image, then the mean.
    groups_used: the share of the groups that an image uses at all, then the mean.

    Entropies are parts of the largest that G groups can have.
    """
    most = math.log(shares.shape[1]) if shares.shape[1] > 1 else 1.0
    return {
        "usage_entropy": float(torch.special.entr(shares.mean(dim=0)).sum()) / most,
        "image_entropy": float(torch.special.entr(shares).sum(dim=1).mean()) / most,
        "groups_used": float((shares > 0).float().mean()),
    }
