"""Splits a large picture into windows and merges their embeddings.

That is one of two ways back to one picture: the embeddings of windows are averaged on one grid, which is then
classified like any other. The other is `blending`, which averages what windows were classified as.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.segmenter import Embedding

__all__ = ["Box", "boxes", "fits", "grid", "is_finite", "rows", "stitch", "take"]

View = TypeVar("View", bound=Embedding)


class Box(NamedTuple):
    """Rows top to bottom, columns left to right, in pixels of the resized picture; the ends are not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def boxes(size: tuple[int, int], window: int | None, stride: int | None = None, *, multiple: int = 1) -> list[Box]:
    """The windows of a picture of `size` (height, width), top to bottom, left to right.

    Per axis ceil((side - window) / stride) + 1 of them, the last one shifted back inside; a side that is no longer
    than the window has one, as long as the side. `stride` is half a window if None.

    multiple: windows start at, and are, multiples of this many pixels, so that their grids share one lattice.
    """
    height, width = size
    if window is None:
        return [Box(0, 0, height, width)]
    window = max(window // multiple, 1) * multiple
    stride = max((stride or window // 2) // multiple, 1) * multiple
    return [
        Box(top, left, bottom, right)
        for top, bottom in _spans(height, window, stride, multiple)
        for left, right in _spans(width, window, stride, multiple)
    ]


def _spans(side: int, window: int, stride: int, multiple: int) -> list[tuple[int, int]]:
    if side <= window:
        return [(0, side)]
    last = math.ceil((side - window) / multiple) * multiple
    count = math.ceil((side - window) / stride) + 1
    starts = [min(place * stride, last) for place in range(count)]
    return [(start, min(start + window, side)) for start in starts]


def grid(embedding: Embedding) -> tuple[int, int]:
    """(h, w) of the grid fields."""
    first: Tensor = getattr(embedding, embedding.grid_fields[0])
    return first.shape[-2], first.shape[-1]


def rows(embedding: View, start: int, stop: int) -> View:
    """The embedding with grid rows `start` to `stop` alone."""
    cut = {name: value[..., start:stop, :] for name, value in _fields(embedding, embedding.grid_fields)}
    return dataclasses.replace(embedding, **cut)


def take(embedding: View, place: int) -> View:
    """Image `place` of the embedding of a batch, as an embedding of one."""
    own = _fields(embedding, (*embedding.grid_fields, *embedding.per_image))
    return dataclasses.replace(embedding, **{name: value[place : place + 1] for name, value in own})


def alone(embedding: View) -> View:
    """The same numbers in memory of their own, for an embedding that outlives the batch it was taken from."""
    own = _fields(embedding, (*embedding.grid_fields, *embedding.per_image))
    parts = {
        name: value.clone() for name, value in own if value.untyped_storage().nbytes() > value.numel() * value.itemsize
    }
    return dataclasses.replace(embedding, **parts) if parts else embedding


def fits(box: Box, embedding: Embedding, patch: int) -> bool:
    """Whether the embedding of window `box` has one cell for every `patch` pixels, so that it can be stitched."""
    wanted = tuple(math.ceil(side / patch) for side in box.size)
    sizes = [tuple(value.shape[-2:]) for _, value in _fields(embedding, embedding.grid_fields)]
    return bool(sizes) and all(size == wanted for size in sizes)


def is_finite(embedding: Embedding) -> bool:
    """Whether the grid fields, or those per image where there are none, are free of infinities and NaN."""
    named = _fields(embedding, embedding.grid_fields or embedding.per_image)
    return all(bool(torch.isfinite(value).all()) for _, value in named)


def _fields(embedding: Embedding, names: Iterable[str]) -> list[tuple[str, Tensor]]:
    return [(name, getattr(embedding, name)) for name in names]


def stitch(windows: Iterable[tuple[Box, View]], size: tuple[int, int], patch: int) -> View:
    """One embedding of the whole picture of `size` pixels from those of its windows, one vector per `patch` pixels.

    Where windows overlap, grid fields are averaged, each window weighing less towards its borders, whose patches saw
    the least around them. Numbers per image (an image vector, say) are averaged over windows; all else is the first
    window's.
    """
    remaining = iter(windows)
    start = next(remaining)
    first = start[1]
    whole = {name: _Mean(value, size, patch) for name, value in _fields(first, first.grid_fields)}
    numbers = [(name, value) for name, value in _fields(first, first.per_image) if value.is_floating_point()]
    totals = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in numbers}
    count = 0
    for box, embedding in itertools.chain([start], remaining):
        for name, mean in whole.items():
            mean.add(getattr(embedding, name), box)
        for name, total in totals.items():
            total += getattr(embedding, name)
        count += 1
    fields = {name: mean.result() for name, mean in whole.items()}
    fields |= {name: (total / count).to(getattr(first, name).dtype) for name, total in totals.items()}
    return dataclasses.replace(first, **fields)


class _Mean:
    """The weighted mean of overlapping windows on one grid; sums in float32 whatever the features are."""

    def __init__(self, like: Tensor, size: tuple[int, int], patch: int) -> None:
        height, width = (math.ceil(side / patch) for side in size)
        self.patch, self.dtype = patch, like.dtype
        self.total = like.new_zeros((*like.shape[:-2], height, width), dtype=torch.float32)
        self.weight = like.new_zeros((height, width), dtype=torch.float32)

    def add(self, features: Tensor, box: Box) -> None:
        if not features.numel():  # of no channels
            return
        height, width = (math.ceil(side / self.patch) for side in box.size)
        if features.shape[-2:] != (height, width):  # a tower that drops what is left of its last cell
            features = F.interpolate(features.float(), (height, width), mode="bilinear", align_corners=False)
        top, left = box.top // self.patch, box.left // self.patch
        weight = _tent(height, features.device)[:, None] * _tent(width, features.device)
        place = (..., slice(top, top + height), slice(left, left + width))
        self.total[place] += features * weight
        self.weight[place] += weight

    def result(self) -> Tensor:
        return (self.total / self.weight).to(self.dtype)


def _tent(length: int, device: torch.device) -> Tensor:
    """1/2, 3/2 ... and back: the distance of each cell's middle from the window's border, in cells."""
    middle = torch.arange(length, device=device) + 0.5
    return torch.minimum(middle, length - middle)
