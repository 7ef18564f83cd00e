"""Computes contrastive losses of images and their texts: CLIP's and GroupViT's.

SimSeg, SegCLIP and S-Seg share the first with CLIP; the second takes several texts of an image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["info_nce", "multi_label_nce"]


def info_nce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: the mean of image-to-text and text-to-image cross-entropy (docs/papers/simseg.md §2.3).

    images, texts: unit vectors [B, D]; row i of one belongs to row i of the other, all other rows are negatives.
    scale: cosines times this are logits (one over the temperature).
    """
    logits = scale * images @ texts.mT  # [B, B]
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.mT, own)) / 2


def multi_label_nce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """The mean of both directions where each image has K texts (GroupViT; docs/papers/groupvit.md §5.4).

    An image should be as near to each of its texts, 1 / K each, among all texts; a text has its one image.

    images: unit vectors [B, D]. texts: unit vectors [B, K, D]. scale: as in `info_nce`, which this is for K = 1.
    """
    logits = scale * torch.einsum("id,jkd->ijk", images, texts)  # [B, B, K]
    batch, _, count = logits.shape
    own = torch.arange(batch, device=logits.device)
    to_texts = logits.flatten(1).log_softmax(dim=1).view_as(logits)[own, own]  # [B, K]
    to_images = functional.cross_entropy(logits.permute(1, 2, 0).flatten(0, 1), own.repeat_interleave(count))
    return (to_images - to_texts.mean()) / 2
