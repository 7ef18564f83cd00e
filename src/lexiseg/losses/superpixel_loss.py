"""Keeps the patches of a superpixel in one region.

This is SegCLIP's loss (docs/papers/segclip.md §3.6).

Letters: B images, L patches, G regions, P patch, H W pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Normalise", "PatchIds", "patch_ids", "superpixel_loss"]

PatchIds = Literal["mean", "majority"]
Normalise = Literal["released", "paper"]


def patch_ids(maps: Tensor, patch: int, how: PatchIds = "mean") -> Tensor:
    """The superpixel of each patch: numbers of superpixels, 0 or more [B, H, W] -> int64 [B, L].

    how: "mean" rounds the mean of the pixels' numbers down, as in the paper. So a patch between the superpixels 2 and 8
        may count to 5, wherever that is. "majority" is the number that most pixels have, the smallest of several.

    Sides that are not a multiple of P are padded with what is at the border.
    """
    height, width = maps.shape[-2:]
    rows = torch.arange(-(-height // patch) * patch, device=maps.device).clamp(max=height - 1)
    columns = torch.arange(-(-width // patch) * patch, device=maps.device).clamp(max=width - 1)
    whole = maps.long()[:, rows[:, None], columns]
    parts = functional.pixel_unshuffle(whole[:, None], patch).flatten(2)  # [B, P P, L]
    return parts.sum(dim=1) // patch**2 if how == "mean" else parts.mode(dim=1).values


def superpixel_loss(
    assignment: Tensor, ids: Tensor, *, normalise: Normalise = "released", stop_gradient: bool = False
) -> Tensor:
    """How much the regions of patches differ within superpixels, for each image [B] (section 2.4 of the paper).

    assignment: of each patch to the regions [B, L, G], one-hot with gradients; ids: its superpixel [B, L].
    normalise: "released" is half of the symmetric divergence, over L G; "paper" its plain sum over patches (Eq. 6).
    stop_gradient: whether the mean of a superpixel only teaches; in the paper and the code both sides learn.
    """
    same = (ids[:, :, None] == ids[:, None, :]).to(assignment)  # [B, L, L]
    with torch.autocast(assignment.device.type, enabled=False):
        means = same @ assignment / same.sum(dim=2, keepdim=True)  # averaged first, softmax after (Eq. 5)
    wanted, given = means.log_softmax(dim=2), assignment.log_softmax(dim=2)
    if stop_gradient:
        wanted = wanted.detach()
    # KL(P || Q) + KL(Q || P) in one
    divergence = ((wanted.exp() - given.exp()) * (wanted - given)).sum(dim=(1, 2))
    if normalise == "paper":
        return divergence
    return divergence / (2 * assignment.shape[1] * assignment.shape[2])
