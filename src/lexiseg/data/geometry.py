"""Holds where a training picture was cut from its photograph.

Every map of the photograph is then cut in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

__all__ = ["Box", "Geometry", "resize_labels"]

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; the last two are not part of it


@dataclass(frozen=True)
class Geometry:
    """A part of a photograph, resized, of which a part is kept, mirrored or not.

    box: the part of the photograph.
    size: (height, width) in pixels that the part is resized to.
    kept: the part of the result that is kept; None is all of it.
    """

    box: Box
    size: tuple[int, int]
    kept: Box | None = None
    mirror: bool = False

    def picture(self, image: Image.Image, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
        """The picture, antialiased."""
        part = image if self.box == (0, 0, *image.size) else image.crop(self.box)
        part = part.resize((self.size[1], self.size[0]), resample)
        part = part if self.kept is None else part.crop(self.kept)
        return ImageOps.mirror(part) if self.mirror else part

    def map(self, values: NDArray[Any]) -> NDArray[Any]:
        """The same part of a map [H, W] of the photograph's size; each pixel has the nearest value."""
        left, top, right, bottom = self.box
        rows, columns = top + _nearest(bottom - top, self.size[0]), left + _nearest(right - left, self.size[1])
        if self.kept is not None:
            rows, columns = rows[self.kept[1] : self.kept[3]], columns[self.kept[0] : self.kept[2]]
        return np.asarray(values[rows[:, None], columns[:: -1 if self.mirror else 1]])


def resize_labels(labels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Nearest neighbour with pixel centres aligned, as Pillow's bilinear resizing of the image has them."""
    return Geometry((0, 0, labels.shape[1], labels.shape[0]), size).map(labels)


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """The pixel of `old` whose centre is nearest to each of `new`."""
    return np.minimum(((np.arange(new) + 0.5) * (old / new)).astype(np.int64), old - 1)
