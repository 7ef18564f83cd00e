"""Cuts regions out of a picture for a network that looks at squares: crop, fill, resize, in that order.

ZSSeg's way to show CLIP one mask at a time (zsseg.md §4.4). The picture is normalised already, so a fill of zero is the
mean colour, and what the bicubic filter makes of it is not clamped.

Letters: N masks, K crops, H W pixels, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError

__all__ = ["CropRule", "boxes", "crop", "crops"]

Fill = Literal["mean", "zero", "picture"]


@dataclass(frozen=True)
class CropRule:
    """side: S, pixels.
    margin: what is added to each side of the tight box, as a share of the box's own, as far as the picture goes.
    fill: what pixels of the box outside the mask become: the "mean" colour, "zero" (black), or the "picture" itself.
    aspect: the box is "stretch"ed to a square, or filled up to one and so "keep"s its shape.
    antialias: whether a box that shrinks is low-pass filtered.
    """

    side: int
    margin: float = 0.0
    fill: Fill = "mean"
    aspect: Literal["stretch", "keep"] = "stretch"
    antialias: bool = False

    def __post_init__(self) -> None:
        if self.side < 1:
            raise SettingError(f"the side of a crop must be 1 pixel or more, got {self.side}")
        if not 0 <= self.margin < float("inf"):
            raise SettingError(f"the margin of a crop must be 0 or more, got {self.margin}")


def boxes(masks: Tensor) -> Tensor:
    """The tight box of each mask, bool [N, H, W], as top, left, bottom, right (ends not included): [N, 4].

    An empty mask has the box 0, 0, 0, 0.
    """
    ends = []
    for inside in (masks.any(dim=2), masks.any(dim=1)):  # rows [N, H], columns [N, W]
        length = inside.shape[1]
        places = torch.arange(length, device=masks.device)
        first = torch.where(inside, places, length).amin(dim=1)
        last = torch.where(inside, places + 1, 0).amax(dim=1)
        ends.append((first.clamp(max=last), last))
    (top, bottom), (left, right) = ends
    return torch.stack([top, left, bottom, right], dim=1)


def crops(picture: Tensor, masks: Tensor, black: Tensor, rule: CropRule) -> Iterator[tuple[int, Tensor]]:
    """The number and the crop [3, S, S] of each mask that is not empty.

    picture: normalised [3, H, W]. masks: bool [N, H, W]. black: level zero, normalised [3].
    """
    for number, box in enumerate(boxes(masks).tolist()):
        if box[2] > box[0]:
            yield number, crop(picture, masks[number], box, black, rule)


def crop(picture: Tensor, mask: Tensor, box: list[int], black: Tensor, rule: CropRule) -> Tensor:
    """One region of a normalised picture [3, H, W] as [3, S, S]."""
    top, left, bottom, right = _widened(box, mask.shape, rule.margin)
    part = picture[:, top:bottom, left:right]
    colour = black.to(picture).view(3, 1, 1) if rule.fill == "zero" else picture.new_zeros(3, 1, 1)
    if rule.fill != "picture":
        part = torch.where(mask[top:bottom, left:right], part, colour)
    if rule.aspect == "keep":
        part = _squared(part, colour)
    size = (rule.side, rule.side)
    return functional.interpolate(part[None], size=size, mode="bicubic", align_corners=False, antialias=rule.antialias)[
        0
    ]


def _widened(box: list[int], size: torch.Size, margin: float) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    down, across = round(margin * (bottom - top)), round(margin * (right - left))
    return max(0, top - down), max(0, left - across), min(size[0], bottom + down), min(size[1], right + across)


def _squared(part: Tensor, colour: Tensor) -> Tensor:
    """In the middle of a square of one colour."""
    height, width = part.shape[-2:]
    side = max(height, width)
    square = colour.repeat(1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = part
    return square
