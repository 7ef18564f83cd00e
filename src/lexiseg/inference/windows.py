"""Windows over a picture that is too large to be looked at at once, and the way back to one picture.

Two ways back. Features: the windows' embeddings are averaged on one grid, which is then classified like any other.
Logits: each window is classified, brought to the window's pixels, summed and divided by the coverage; that is the
order of mmseg's `slide` mode (docs/papers/maskclip.md §2.6), which the papers' numbers were made with.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lexiseg.inference.upsample import value_rows
from lexiseg.segmenter import DenseLogits, MaskScores

__all__ = ["Box", "blend_rows", "boxes", "fits", "grid_fields", "is_finite", "rows", "stitch", "take"]

Embedding = TypeVar("Embedding")


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


def grid_fields(embedding: Any) -> tuple[str, ...]:
    """The fields of shape [B, *, h, w] that an embedding declares; none for one that does not."""
    return tuple(getattr(embedding, "grid_fields", ()))


def rows(embedding: Embedding, start: int, stop: int) -> Embedding:
    """The embedding with grid rows `start` to `stop` alone."""
    cut = {name: getattr(embedding, name)[..., start:stop, :] for name in grid_fields(embedding)}
    return dataclasses.replace(embedding, **cut)  # type: ignore[type-var]


def take(value: Any, place: int, batch: int) -> Any:
    """Image `place` of an embedding of `batch` images, as an embedding of one.

    Every tensor whose first dimension is `batch` is cut, wherever dataclasses, tuples, lists and dicts hold it.
    """
    if batch == 1:
        return value
    if isinstance(value, Tensor):
        return value[place : place + 1] if value.ndim and len(value) == batch else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: take(getattr(value, field.name), place, batch) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, (list, tuple)):
        return type(value)(take(item, place, batch) for item in value)
    if isinstance(value, dict):
        return {key: take(item, place, batch) for key, item in value.items()}
    return value


def fits(box: Box, embedding: Any, patch: int) -> bool:
    """Whether the embedding of window `box` has one cell for every `patch` pixels, so that it can be stitched."""
    grid = tuple(math.ceil(side / patch) for side in box.size)
    fields = grid_fields(embedding)
    return bool(fields) and all(tuple(getattr(embedding, name).shape[-2:]) == grid for name in fields)


def is_finite(embedding: Any) -> bool:
    """Whether the grid fields, or all tensors of an embedding without any, are free of infinities and NaN."""
    fields = grid_fields(embedding)
    values = [getattr(embedding, name) for name in fields] if fields else _tensors(embedding)
    return all(bool(torch.isfinite(value).all()) for value in values)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def stitch(windows: Iterable[tuple[Box, Embedding]], size: tuple[int, int], patch: int) -> Embedding:
    """One embedding of the whole picture of `size` pixels from those of its windows, one vector per `patch` pixels.

    Where windows overlap, grid fields are averaged, each window weighing less towards its borders, whose patches saw
    the least around them. Other tensors (an image vector, say) are averaged over windows; all else is the first
    window's.
    """
    remaining = iter(windows)
    start = next(remaining)
    first = start[1]
    whole = {name: _Mean(getattr(first, name), size, patch) for name in grid_fields(first)}
    totals = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in _other_tensors(first)}
    count = 0
    for box, embedding in itertools.chain([start], remaining):
        for name, mean in whole.items():
            mean.add(getattr(embedding, name), box)
        for name, total in totals.items():
            total += getattr(embedding, name)
        count += 1
    fields = {name: mean.result() for name, mean in whole.items()}
    fields |= {name: (total / count).to(getattr(first, name).dtype) for name, total in totals.items()}
    return dataclasses.replace(first, **fields)  # type: ignore[type-var]


def _other_tensors(embedding: Any) -> list[tuple[str, Tensor]]:
    named = ((field.name, getattr(embedding, field.name)) for field in dataclasses.fields(embedding))
    grid = grid_fields(embedding)
    return [
        (name, value)
        for name, value in named
        if name not in grid and torch.is_tensor(value) and value.is_floating_point()
    ]


class _Mean:
    """The weighted mean of overlapping windows on one grid; sums in float32 whatever the features are."""

    def __init__(self, like: Tensor, size: tuple[int, int], patch: int) -> None:
        height, width = (math.ceil(side / patch) for side in size)
        self.patch, self.dtype = patch, like.dtype
        self.total = like.new_zeros((*like.shape[:-2], height, width), dtype=torch.float32)
        self.weight = like.new_zeros((height, width), dtype=torch.float32)

    def add(self, features: Tensor, box: Box) -> None:
        height, width = features.shape[-2:]
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


def blend_rows(
    results: Iterable[tuple[Box, DenseLogits | MaskScores]], size: tuple[int, int], budget: int
) -> Iterator[tuple[int, Tensor]]:
    """The mean of the windows' results at the pixels of the resized picture, a band of rows at a time.

    results: from top to bottom, each of one image (B = 1); they are asked for when their rows are due, and dropped.
    size: (height, width) of the resized picture.
    budget: how many numbers a band holds.

    Yields (first row, [K, n, W]) with K as in `value_rows`; each band repeats the last row of the one before.
    """
    remaining = iter(results)
    upcoming = next(remaining, None)
    active: list[tuple[Box, DenseLogits | MaskScores]] = []
    last: Tensor | None = None
    start = 0
    while start < size[0]:
        stop = start + 1
        if last is not None:
            stop = min(size[0], start + max(1, budget // (len(last) * size[1])))
        while upcoming is not None and upcoming[0].top < stop:
            active.append(upcoming)
            upcoming = next(remaining, None)
        active = [(box, result) for box, result in active if box.bottom > start]
        band = _mean_rows(active, start, stop, size[1])
        yield (start, band) if last is None else (start - 1, torch.cat([last, band], dim=1))
        last, start = band[:, -1:], stop


def _mean_rows(active: list[tuple[Box, DenseLogits | MaskScores]], start: int, stop: int, width: int) -> Tensor:
    total, cover = None, None
    for box, result in active:
        top, bottom = max(start, box.top), min(stop, box.bottom)
        if top >= bottom:
            continue
        values = value_rows(result, box.size, top - box.top, bottom - box.top)  # [K, n, w]
        if total is None or cover is None:
            total, cover = values.new_zeros(len(values), stop - start, width), values.new_zeros(stop - start, width)
        place = (..., slice(top - start, bottom - start), slice(box.left, box.right))
        total[place] += values
        cover[place] += 1
    assert total is not None, "windows leave a gap"
    assert cover is not None
    return total.div_(cover)
