"""Fills in missing labels with what a model sees there.

The model is a teacher, or the student itself.

Letters: B images, K channels of a result, N masks, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.segmenter import DenseLogits, MaskScores

__all__ = ["UNLABELLED", "cross_entropy", "fill", "upsample"]

UNLABELLED = -1  # in a label map: there is something to be learned here, and no label says what (`data.dense`)


def fill(
    labels: Tensor,
    result: DenseLogits | MaskScores,
    places: Sequence[int],
    *,
    ignore: int,
    confidence: float | None = None,
    everywhere: bool = False,
) -> Tensor:
    """Label maps [B, H, W] whose unlabelled pixels have the best class of `result` (docs/papers/maskclip_plus.md §3.4).

    places: the label that each channel of `result` stands for.
    confidence: unlabelled pixels whose posterior is below it become `ignore`; with `everywhere` all pixels whose best
        score is, as released.
    """
    scores, weights = _at_labels(result, labels)  # [B, K, H, W], [B, N, H, W] or None
    best, channel = scores.max(dim=1)
    unlabelled = labels == UNLABELLED
    filled = torch.where(unlabelled, torch.tensor(places, device=labels.device)[channel], labels)
    if confidence is not None:
        if everywhere:
            filled = filled.masked_fill(best < confidence, ignore)
        else:
            filled = filled.masked_fill(unlabelled & (_posterior(scores, weights) < confidence), ignore)
    return filled


def _at_labels(result: DenseLogits | MaskScores, labels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scores at every pixel; masks are brought to its size before they are summed, as everywhere. And their weights."""
    result, size = result.float(), labels.shape[-2:]
    if isinstance(result, DenseLogits):
        return upsample(result.logits, size, covers=result.covers), None
    weights = result.weigh(upsample(result.masks, size, covers=result.covers))
    return torch.einsum("bnhw,bnc->bchw", weights, result.scores), weights


def _posterior(scores: Tensor, weights: Tensor | None) -> Tensor:
    """Of each pixel's best class [B, H, W]."""
    if weights is None:
        return scores.softmax(dim=1).amax(dim=1)
    return scores.amax(dim=1) / weights.sum(dim=1).clamp(min=1e-12)


def upsample(scores: Tensor, size: Sequence[int], *, covers: Sequence[int] | None = None) -> Tensor:
    """Bilinear, pixel centres aligned, in float32.

    covers: pixels that the grid spans, where they are not `size`; what is beyond is cut off, what is missing repeated.
    """
    size, covers = list(size), list(covers or size)
    whole = functional.interpolate(scores.float(), size=covers, mode="bilinear", align_corners=False)
    if covers == size:
        return whole
    missing = [max(0, side - spanned) for side, spanned in zip(size, covers, strict=True)]
    if any(missing):
        whole = functional.pad(whole, (0, missing[1], 0, missing[0]), mode="replicate")
    return whole[..., : size[0], : size[1]]


def cross_entropy(scores: Tensor, targets: Tensor, *, ignore: int, mean: Literal["valid", "all"] = "valid") -> Tensor:
    """Of logits [B, C, H, W] and labels [B, H, W]: the mean over the pixels that have a label, or over all (§3.5)."""
    each = functional.cross_entropy(scores, targets, ignore_index=ignore, reduction="none")  # [B, H, W]
    return each.mean() if mean == "all" else each.sum() / (targets != ignore).sum().clamp(min=1)
