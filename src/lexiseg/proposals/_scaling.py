"""Scales pictures before they are grouped."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

__all__ = ["scaled_down", "to_short_side"]

MOST_SQUARES = 4


def to_short_side(images: Tensor, short_side: int) -> Tensor:
    """uint8 [B, 3, H, W] whose short side has so many pixels.

    A narrow strip is enlarged less: to at most MOST_SQUARES squares of that side.
    """
    height, width = images.shape[-2:]
    factor = short_side / min(height, width)
    if factor > 1:
        area = max(height * width, MOST_SQUARES * short_side**2)
        factor = min(factor, math.sqrt(area / (height * width)))
    return _scaled(images, factor)


def scaled_down(images: Tensor, long_side: int | None) -> Tensor:
    """uint8 [B, 3, H, W] whose long side has at most so many pixels; None keeps them."""
    longest = max(images.shape[-2:])
    return images if long_side is None or longest <= long_side else _scaled(images, long_side / longest)


def _scaled(images: Tensor, factor: float) -> Tensor:
    size = [max(1, round(side * factor)) for side in images.shape[-2:]]
    return functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
