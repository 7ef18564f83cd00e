"""Puts one to four pictures together in a square of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Layout", "Layouts", "compose", "crop_around", "fit"]

MOST_CELLS = 4

_BANK = 128  # layouts of each number of cells and each kind; turned and mirrored they are 1,024
_SMALLEST = 0.12  # of the canvas: no cell is smaller

Level = TypeVar("Level", bound=np.generic)
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; the last two are not part of it


@dataclass(frozen=True, eq=False)
class Layout:
    """cells: which cell each pixel belongs to [size, size]; boxes: the smallest box around each cell."""

    cells: Pixels
    boxes: tuple[Box, ...]

    def visible(self, cell: int) -> NDArray[np.bool_]:
        """Which pixels of a cell's box belong to it [h, w]."""
        top, left, bottom, right = self.boxes[cell]
        return np.asarray(self.cells[top:bottom, left:right] == cell)


class Layouts:
    """Ready-made layouts of `size` pixels, half of them rectangles, half irregular; `seed` decides them."""

    def __init__(self, size: int, *, seed: int = 0) -> None:
        random = np.random.default_rng([seed, size])
        self._bank = {
            (count, irregular): np.stack([_partition(count, size, random, irregular) for _ in range(_BANK)])
            for count in range(2, MOST_CELLS + 1)
            for irregular in (False, True)
        }
        self._size = size

    def draw(self, count: int, random: np.random.Generator, *, irregular: bool) -> Layout:
        """A layout of `count` cells, 1 to 4, in one of eight orientations."""
        if count == 1:
            return Layout(np.zeros((self._size, self._size), np.uint8), ((0, 0, self._size, self._size),))
        cells = self._bank[count, irregular][int(random.integers(_BANK))]
        turn = int(random.integers(8))
        cells = cells[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
        cells = cells.T if turn & 4 else cells
        return Layout(cells, tuple(_box(cells == cell) for cell in range(count)))


def compose(layout: Layout, pieces: Sequence[NDArray[Level]]) -> NDArray[Level]:
    """The pieces, each of the size of its cell's box, [h, w] or [h, w, 3], cut out and laid on one canvas."""
    canvas = np.empty(layout.cells.shape + pieces[0].shape[2:], pieces[0].dtype)
    for cell, ((top, left, bottom, right), piece) in enumerate(zip(layout.boxes, pieces, strict=True)):
        where = layout.visible(cell)
        np.copyto(canvas[top:bottom, left:right], piece, where=where[..., None] if piece.ndim == 3 else where)
    return canvas


def crop_around(
    size: tuple[int, int],
    shape: tuple[int, int],
    random: np.random.Generator,
    *,
    side: tuple[float, float],
    focus: tuple[float, float] | None = None,
) -> Box:
    """A random box in a picture of `size` (height, width), in the proportions of `shape`, slightly distorted.

    side: the box's length as a share of the largest that fits.
    focus: (y, x) in pixels, a point that must be in the box.
    """
    aspect = shape[0] / shape[1] * np.exp(random.uniform(-0.2, 0.2))
    scale = min(size[0] / aspect, size[1]) * random.uniform(*side)  # the box's width
    box = max(1, min(size[0], round(scale * aspect))), max(1, min(size[1], round(scale)))
    corner = []
    for axis in (0, 1):
        first, last = 0, size[axis] - box[axis]
        if focus is not None:
            at = min(max(int(focus[axis]), 0), size[axis] - 1)
            first, last = max(first, at - box[axis] + 1), min(last, at)
        corner.append(int(random.integers(first, last + 1)))
    return corner[0], corner[1], corner[0] + box[0], corner[1] + box[1]


def fit(picture: Pixels, box: Box, shape: tuple[int, int], *, mirror: bool) -> Pixels:
    """A box of a picture as RGB of another size, antialiased, or of a label map [H, W], nearest."""
    top, left, bottom, right = box
    part = resized = picture[top:bottom, left:right]
    if part.ndim == 2:
        rows = (np.arange(shape[0]) * 2 + 1) * (bottom - top) // (2 * shape[0])
        columns = (np.arange(shape[1]) * 2 + 1) * (right - left) // (2 * shape[1])
        resized = np.asarray(part[rows[:, None], columns])
    elif part.shape[:2] != shape:
        image = Image.fromarray(np.ascontiguousarray(part))
        resized = np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(resized[:, ::-1]) if mirror else resized


def _partition(count: int, size: int, random: np.random.Generator, irregular: bool) -> Pixels:
    """A map of `count` cells [size, size], drawn until none is too small."""
    while True:
        cells = _wavy(count, size, random) if irregular else _rectangles(count, size, random)
        if np.bincount(cells.reshape(-1), minlength=count).min() >= _SMALLEST * size * size:
            return cells


def _rectangles(count: int, size: int, random: np.random.Generator) -> Pixels:
    """Straight cuts, each through the largest cell and across its longer side."""
    boxes: list[Box] = [(0, 0, size, size)]
    while len(boxes) < count:
        boxes.sort(key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        top, left, bottom, right = boxes.pop()
        share = random.uniform(0.35, 0.65)
        if (bottom - top, random.random()) > (right - left, 0.5):
            middle = top + round(share * (bottom - top))
            boxes += [(top, left, middle, right), (middle, left, bottom, right)]
        else:
            middle = left + round(share * (right - left))
            boxes += [(top, left, bottom, middle), (top, middle, bottom, right)]
    cells = np.empty((size, size), np.uint8)
    for cell, (top, left, bottom, right) in enumerate(boxes):
        cells[top:bottom, left:right] = cell
    return cells


def _wavy(count: int, size: int, random: np.random.Generator) -> Pixels:
    """Each pixel goes to the nearest of `count` points, seen through a slow distortion of the plane."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    waves = random.uniform(1, 3, 4) * 2 * np.pi
    phases = random.uniform(0, 2 * np.pi, 4)
    bent_y = y + 0.06 * np.sin(waves[0] * x + phases[0]) + 0.03 * np.sin(waves[1] * y + phases[1])
    bent_x = x + 0.06 * np.sin(waves[2] * y + phases[2]) + 0.03 * np.sin(waves[3] * x + phases[3])
    points = random.uniform(0.1, 0.9, (count, 2))
    distances = [(bent_y - point[0]) ** 2 + (bent_x - point[1]) ** 2 for point in points]
    return np.asarray(np.argmin(distances, axis=0), np.uint8)


def _box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
