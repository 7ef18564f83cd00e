"""Computes the contrastive loss of images and their texts.

SimSeg, SegCLIP and S-Seg share it with CLIP.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["info_nce"]


def info_nce(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: the mean of image-to-text and text-to-image cross-entropy (docs/papers/simseg.md §2.3).

    images, texts: unit vectors [B, D]; row i of one belongs to row i of the other, all other rows are negatives.
    scale: cosines times this are logits (one over the temperature).
    """
    logits = scale * images @ texts.mT  # [B, B]
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.mT, own)) / 2
