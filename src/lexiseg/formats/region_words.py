"""Writes words on the regions that have room for them.

The word is that of the region's class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from lexiseg.formats.borders import borders
from lexiseg.formats.lettering import Font, font_for, letter_size, shortened

__all__ = ["Word", "find", "write"]

Labels = npt.NDArray[np.uint8 | np.uint16]

INK, RIM = (255, 255, 255), (24, 24, 24)  # light letters with a dark rim are read on any ground
SIZES = (2.0, 1.6, 1.3, 1.0, 0.8)  # of letters, the largest that fits, in letter sizes of the picture
LEAST = 10  # pixels; smaller letters cannot be read
MARGIN = 0.25  # around a word, in its own size
FILLS = 0.35  # of its region, at most, is what a word covers
PULL = 0.1  # cells of depth that a word gives up to be a cell nearer to the middle of its region's box
MOST = 60  # words on a picture
GRID = 640  # cells of the longer side at most; places are looked for in a label map of this size


@dataclass(frozen=True)
class Word:
    """A text and where its middle is, in pixels of the picture."""

    text: str
    font: Font
    x: int
    y: int
    rim: int  # pixels

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of its letters, in pixels of the picture."""
        left, top, right, bottom = self.font.getbbox(self.text, anchor="mm", stroke_width=self.rim)
        return round(self.x + left), round(self.y + top), round(self.x + right), round(self.y + bottom)


def write(picture: Image.Image, labels: Labels, texts: Mapping[int, str]) -> None:
    """Draws the text of each label on its regions; labels without one stay without."""
    draw = ImageDraw.Draw(picture)
    for word in find(labels, texts, letter_size(picture.width, picture.height)):
        draw.text((word.x, word.y), word.text, INK, word.font, "mm", stroke_width=word.rim, stroke_fill=RIM)


def find(labels: Labels, texts: Mapping[int, str], size: int) -> list[Word]:
    """The words of the regions that have room for one, largest region first; `size` of letters in pixels."""
    step = -(-max(labels.shape) // GRID)
    cells = labels[step // 2 :: step, step // 2 :: step]
    depth = _depth(cells)
    words = (_word(region, texts[region.label], size, step, depth) for region in _regions(cells, texts))
    return [word for word in words if word is not None]


@dataclass(frozen=True, eq=False)
class _Region:
    """Connected cells of one label: where they are in their box [h, w], and where the box is in the grid."""

    label: int
    mask: npt.NDArray[np.bool_]
    box: tuple[slice, slice]


def _regions(cells: Labels, texts: Mapping[int, str]) -> Iterator[_Region]:
    """The largest regions of the labels that have a text."""
    from scipy import ndimage
    from skimage import measure

    regions = measure.label(cells.astype(np.int32), background=-1, connectivity=1)  # from 1 on
    counts = np.bincount(regions.ravel())
    label_of = np.zeros(len(counts), np.int64)
    label_of[regions] = cells
    named = [region for region in np.argsort(-counts, kind="stable") if counts[region] and label_of[region] in texts]
    kept = np.zeros(len(counts), np.int32)
    kept[named[:MOST]] = np.arange(1, len(named[:MOST]) + 1)
    kept_regions = kept[regions]
    for place, box in enumerate(ndimage.find_objects(kept_regions), start=1):
        yield _Region(int(label_of[named[place - 1]]), kept_regions[box] == place, box)


def _word(region: _Region, text: str, size: int, step: int, depth: npt.NDArray[np.float64]) -> Word | None:
    """The text in the largest letters that the region has room for; None where it has none."""
    for letters in (max(LEAST, round(factor * size)) for factor in SIZES):
        font = font_for(text, letters)
        word = Word(shortened(text, font, letters), font, 0, 0, max(1, letters // 9))
        left, top, right, bottom = word.box
        margin = round(MARGIN * letters)
        wide, high = (-(-2 * (max(-low, up) + margin) // step) for low, up in ((left, right), (top, bottom)))
        if wide * high <= FILLS * region.mask.sum() and (spot := _spot(region.mask, depth[region.box], high, wide)):
            rows, columns = region.box
            y, x = rows.start + spot[0] + high / 2, columns.start + spot[1] + wide / 2
            return replace(word, x=round(x * step), y=round(y * step))
    return None


def _spot(mask: npt.NDArray[np.bool_], depth: npt.NDArray[np.float64], high: int, wide: int) -> tuple[int, int] | None:
    """Top and left of the rectangle inside the mask whose middle is deepest, and central; None where none fits."""
    height, width = mask.shape
    if high > height or wide > width:
        return None
    sums = np.zeros((height + 1, width + 1), np.int64)  # of all cells above and to the left
    sums[1:, 1:] = mask.cumsum(0).cumsum(1)
    filled = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    fits = filled == high * wide
    if not fits.any():
        return None
    middle = depth[high // 2 :, wide // 2 :][: fits.shape[0], : fits.shape[1]]
    off_y, off_x = (np.abs(np.arange(side) - side / 2) for side in fits.shape)
    merit = np.where(fits, middle - PULL * (off_y[:, None] + off_x), -np.inf)
    top, left = np.unravel_index(merit.argmax(), merit.shape)
    return int(top), int(left)


def _depth(cells: Labels) -> npt.NDArray[np.float64]:
    """Distance of each cell to the nearest one of another label, or to the rim of the picture."""
    from scipy import ndimage

    inner = np.zeros((cells.shape[0] + 2, cells.shape[1] + 2), bool)
    inner[1:-1, 1:-1] = ~borders(cells, 1)
    return np.asarray(ndimage.distance_transform_edt(inner)[1:-1, 1:-1])
