"""Draws a label map over its photograph.

Regions are tinted, lines lie between them, and stripes mark where no label is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.formats import oklab
from lexiseg.formats.borders import borders
from lexiseg.formats.lettering import letter_size

__all__ = ["Colour", "Labels", "paint"]

Labels = npt.NDArray[np.uint8 | np.uint16]
Colour = tuple[int, int, int]  # sRGB 0-255
Floats = npt.NDArray[np.float64]

WHITE = np.array([1.0, 0.0, 0.0])  # OKLab
# lightness in OKLab, 0-1
SHADES = (0.2, 1.0)  # of the photograph's black and white under a colour
DIMMED = (0.15, 0.65)  # the same where there is no label
STRIPES = 0.1  # what the stripes add there
LINES = 0.4  # of the lines around a region, as a share of its colour's
# widths in letter sizes
LINE = 1 / 14  # of a line between regions, on either side
STRIPE, PERIOD = 1 / 7, 0.6  # of a stripe, and from one to the next
BLOCK = 1 << 20  # pixels that are painted at a time


def paint(
    photograph: Image.Image | None, labels: Labels, colours: Mapping[int, Colour], *, alpha: float
) -> Image.Image:
    """The label map [H, W] over the photograph, each label in its colour; labels without a colour are unlabelled.

    A region has the hue of its colour, and `1 - alpha` of its lightness from the photograph. Blending with the
    photograph's own greys or hues would bring the colours of different classes together. Pixels without a label show
    the photograph in grey, dimmed, with stripes. Without a photograph the colours are plain.
    """
    height, width = labels.shape
    size = letter_size(width, height)
    grey = None if photograph is None else np.asarray(photograph.convert("L"))
    inks = _inks(list(colours.values()), 1 if grey is None else alpha)
    row_of = np.zeros(np.iinfo(labels.dtype).max + 1, np.int32)
    row_of[list(colours)] = np.arange(1, len(colours) + 1)
    lined = borders(labels, max(1, round(LINE * size)))
    painted = np.empty((height, width), np.uint32)
    step = max(1, BLOCK // width)
    for top in range(0, height, step):
        rows = slice(top, top + step)
        row = row_of[labels[rows]]
        lines = lined[rows] | (row == 0) & _stripes(top, row.shape, size)
        shade = 128 if grey is None else grey[rows]
        painted[rows] = inks.ravel()[(2 * row + lines) * 256 + shade]
    return Image.frombytes("RGB", (width, height), painted.data, "raw", "RGBX")


def _inks(colours: list[Colour], alpha: float) -> npt.NDArray[np.uint32]:
    """Pixels by label, ground or line, and shade of the photograph [1 + labels, 2, 256]; no label comes first."""
    shades = np.linspace(0, 1, 256)
    under, dimmed = (dark + (light - dark) * shades for dark, light in (SHADES, DIMMED))
    pixels = np.full((1 + len(colours), 2, 256, 4), 255, np.uint8)
    for ground, lightness in enumerate((dimmed, dimmed + STRIPES)):
        pixels[0, ground, :, :3] = oklab.to_srgb(lightness[:, None] * WHITE)
    for row, colour in enumerate(colours, start=1):
        lab = oklab.from_srgb(np.array(colour, np.uint8))
        tint = _tinted(lab, alpha * lab[0] + (1 - alpha) * under)
        tint[:, 1:] *= min(1, 2 * alpha)  # nothing is left of the colour where alpha is 0
        pixels[row, 0, :, :3] = oklab.to_srgb(tint)
        pixels[row, 1, :, :3] = oklab.to_srgb(LINES * lab)
    return pixels.view(np.uint32)[..., 0]


def _tinted(colour: Floats, lightness: Floats) -> Floats:
    """OKLab of the colour [3] at other lightnesses [N, 3]: darker as in the shade, lighter towards white."""
    darker = np.minimum(lightness / colour[0], 1)[:, None]
    lighter = np.maximum((lightness - colour[0]) / (1 - colour[0]), 0)[:, None]
    return np.asarray(darker * (1 - lighter) * colour + lighter * WHITE)


def _stripes(top: int, shape: tuple[int, ...], size: int) -> npt.NDArray[np.bool_]:
    """Where slanting stripes are in rows that begin at `top`."""
    across = np.arange(top, top + shape[0])[:, None] + np.arange(shape[1])
    return np.asarray(across % round(PERIOD * size) < max(1, round(STRIPE * size)))
