"""Cuts regions out of a picture as squares.

Networks that look at squares name them. The order is crop, fill, resize.

ZSSeg's way to show CLIP one mask at a time (zsseg.md §4.4). With a low-pass filter bytes are resized, as in CLIP's own
preprocessing, and then normalised. Without, as released, levels are normalised first, so that a fill with the mean
colour is exactly zero, and what the bicubic filter makes of them is not clamped.

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
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics

__all__ = ["CropRule", "boxes", "crops"]

Fill = Literal["mean", "zero", "picture"]


@dataclass(frozen=True)
class CropRule:
    """side: S, pixels.
    margin: what is added to each side of the tight box, as a share of the box's own, as far as the picture goes.
    fill: what pixels of the box outside the mask become: the "mean" colour, "zero" (black), or the "picture" itself.
    aspect: the box is "stretch"ed to a square, or filled up to one and so "keep"s its shape.
    antialias: whether a box that shrinks is low-pass filtered, as bytes.
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


def crops(
    picture: Tensor, masks: Tensor, rule: CropRule, statistics: Statistics, dtype: torch.dtype = torch.float32
) -> Iterator[tuple[int, Tensor]]:
    """The number and the normalised crop [3, S, S] of each mask that is not empty.

    picture: RGB uint8 [3, H, W]. masks: bool [N, H, W].
    """
    rows = picture.permute(1, 2, 0).contiguous()  # [H, W, 3], which bytes are resized much faster in
    for number, box in enumerate(boxes(masks).tolist()):
        if box[2] > box[0]:
            yield number, _crop(rows, masks[number], box, rule, statistics).to(dtype)


def _crop(rows: Tensor, mask: Tensor, box: list[int], rule: CropRule, statistics: Statistics) -> Tensor:
    """One region of a picture, uint8 [H, W, 3], as [3, S, S]."""
    top, left, bottom, right = _widened(box, mask.shape, rule.margin)
    part, inside = rows[top:bottom, left:right], mask[top:bottom, left:right, None]
    mean = rows.new_tensor([round(255 * each) for each in pixels.mean_and_std(statistics)[0]])
    colour = torch.zeros_like(mean) if rule.fill == "zero" else mean
    if rule.antialias:
        return pixels.normalise(_resized(_filled(part, inside, colour, rule), rule), statistics)
    part, colour = (
        pixels.normalise(each.permute(2, 0, 1), statistics).permute(1, 2, 0) for each in (part, colour.view(1, 1, 3))
    )
    colour = colour.flatten() if rule.fill == "zero" else colour.new_zeros(3)  # which no level is exactly
    return _resized(_filled(part, inside, colour, rule), rule)


def _filled(part: Tensor, inside: Tensor, colour: Tensor, rule: CropRule) -> Tensor:
    """Pixels [h, w, 3] that are not inside [h, w, 1] painted over."""
    part = part if rule.fill == "picture" else torch.where(inside, part, colour)
    return _squared(part, colour) if rule.aspect == "keep" else part


def _resized(part: Tensor, rule: CropRule) -> Tensor:
    """[h, w, 3] -> [3, S, S]; torch resizes bytes on CPUs alone."""
    image = part.permute(2, 0, 1)[None]
    onward = image.float() if image.dtype == torch.uint8 and not image.is_cpu else image
    size = (rule.side, rule.side)
    found = functional.interpolate(onward, size, mode="bicubic", align_corners=False, antialias=rule.antialias)[0]
    return found if onward is image else found.round().clamp(0, 255).to(torch.uint8)


def _widened(box: list[int], size: torch.Size, margin: float) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    down, across = round(margin * (bottom - top)), round(margin * (right - left))
    return max(0, top - down), max(0, left - across), min(size[0], bottom + down), min(size[1], right + across)


def _squared(part: Tensor, colour: Tensor) -> Tensor:
    """[h, w, 3] in the middle of a square of one colour."""
    height, width = part.shape[:2]
    side = max(height, width)
    square = colour.expand(side, side, 3).clone()
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = part
    return square
