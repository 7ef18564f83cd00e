"""Draw a label map over its photograph, with a legend beside or under it that never covers it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lexiseg.errors import ImageError

__all__ = ["LegendRow", "Photograph", "paint", "read", "with_legend"]

Photograph = Image.Image | npt.NDArray[np.uint8] | str | os.PathLike[str]
Colour = tuple[int, int, int]  # sRGB 0-255
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER, INK, FAINT = (255, 255, 255), (33, 33, 33), (115, 115, 115)  # the legend's colours
SHADES = (60, 220)  # black and white of the photograph where it shows through a class's colour, 0-255
LONGEST_NAME = 14  # of a class in the legend, in text sizes
LEAST_LINES = 6  # the legend of a small or wide picture has room for so many classes at least
SYSTEM_FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")  # for names that Pillow's own font cannot write


@dataclass(frozen=True)
class LegendRow:
    """area: fraction of the picture, 0-1; None for a row that only says something."""

    name: str
    colour: Colour
    area: float | None


def read(photograph: Photograph, *, size: tuple[int, int]) -> Image.Image:
    """The photograph as upright RGB; `size` is the (height, width) it must have.

    Raises `ImageError` where it cannot be read or is not the picture that was segmented.
    """
    if isinstance(photograph, (str, os.PathLike)):
        photograph = _open(Path(photograph))
    elif isinstance(photograph, np.ndarray):
        if photograph.dtype != np.uint8 or photograph.shape[2:] not in [(), (3,)]:
            raise ImageError(f"the photograph is {photograph.dtype} {list(photograph.shape)}; give uint8 [H, W, 3]")
        photograph = Image.fromarray(photograph)
    if (photograph.height, photograph.width) != size:
        raise ImageError(
            f"the photograph is {photograph.height}x{photograph.width} but its label map {size[0]}x{size[1]} "
            "(height x width); give the photograph that was segmented"
        )
    return photograph.convert("RGB")


def paint(
    photograph: Image.Image | None,
    labels: npt.NDArray[np.uint8 | np.uint16],
    colours: npt.NDArray[np.uint8],
    *,
    unlabelled: Colour,
    alpha: float,
) -> Image.Image:
    """The label map [H, W] in `colours` [C, 3] over the photograph; labels past C become `unlabelled`.

    The photograph shows through without its own hues and deepest shades, which would make one class's colour look like
    another's, and each region is framed in its pure colour. Pixels without a label keep the grey photograph.
    """
    table = np.empty((np.iinfo(labels.dtype).max + 1, 3), np.uint8)
    table[:], table[: len(colours)] = unlabelled, colours
    flat = Image.fromarray(np.take(table, labels, axis=0))
    if photograph is None:
        return flat
    grey = photograph.convert("L")
    dark, light = SHADES
    soft = grey.point([dark + (light - dark) * shade // 255 for shade in range(256)])
    picture = Image.blend(soft.convert("RGB"), flat, alpha)
    picture.paste(flat, mask=Image.fromarray(_frames(labels, max(1, _text_size(picture) // 12))))
    picture.paste(grey.convert("RGB"), mask=Image.fromarray(labels >= len(colours)))
    return picture


def with_legend(picture: Image.Image, rows: Sequence[LegendRow]) -> Image.Image:
    """The picture in the top left corner of a larger sheet, and a line of text for each class.

    The legend stands beside the picture, or under a wide one. Rows that find no place are counted in the last line.
    """
    size = _text_size(picture)
    font = ImageFont.load_default(size)
    line, beside = round(1.6 * size), 5 * picture.height >= 3 * picture.width
    texts = [_Text.fit(row, size, font) for row in rows]
    cell = 2 * size + max(text.width for text in texts)
    columns = 1 if beside else max(1, (picture.width - size) // cell)
    lines = max(LEAST_LINES, picture.height // line - 1) if beside else LEAST_LINES
    if len(texts) > columns * lines:
        kept = columns * lines - 1
        texts[kept:] = [_Text.fit(LegendRow(f"and {len(rows) - kept} more", PAPER, None), size, font)]
    lines = -(-len(texts) // columns)
    legend = (size + columns * cell, size + lines * line)
    left, top = (picture.width, 0) if beside else (0, picture.height)
    sheet = Image.new("RGB", (max(picture.width, left + legend[0]), max(picture.height, top + legend[1])), PAPER)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for place, text in enumerate(texts):
        column, row = divmod(place, lines)
        text.draw(draw, left + size + column * cell, top + size // 2 + row * line, cell - 2 * size)
    return sheet


@dataclass(frozen=True)
class _Text:
    """A row of the legend made to fit; widths in pixels."""

    name: str
    percent: str
    colour: Colour
    size: int
    font: Font

    @classmethod
    def fit(cls, row: LegendRow, size: int, font: Font) -> _Text:
        name = row.name[:100]  # longer than any that fits
        font = font if name.isascii() else _system_font(size, font)
        while font.getlength(name) > LONGEST_NAME * size:
            name = name.rstrip("…")[:-1].rstrip() + "…"
        return cls(name, _percent(row.area), row.colour, size, font)

    @property
    def width(self) -> int:
        return round(1.6 * self.size + self.font.getlength(self.name) + self.size + self.font.getlength("88.8%"))

    def draw(self, draw: ImageDraw.ImageDraw, x: int, y: int, width: int) -> None:
        middle, half = y + 0.8 * self.size, self.size / 2
        draw.rounded_rectangle((x, middle - half, x + 2 * half, middle + half), radius=self.size / 5, fill=self.colour)
        draw.text((x + 1.6 * self.size, middle), self.name, INK, self.font, anchor="lm")
        draw.text((x + width, middle), self.percent, FAINT, self.font, anchor="rm")


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read as a photograph: {error}; give a JPEG, PNG or WebP file") from error


def _frames(labels: npt.NDArray[np.uint8 | np.uint16], width: int) -> npt.NDArray[np.bool_]:
    """Pixels that lie within `width` of another label, along a row or a column [H, W]."""
    frames = np.zeros(labels.shape, bool)
    across = labels[:, width:] != labels[:, :-width]
    down = labels[width:] != labels[:-width]
    frames[:, width:] |= across
    frames[:, :-width] |= across
    frames[width:] |= down
    frames[:-width] |= down
    return frames


def _text_size(picture: Image.Image) -> int:
    """In pixels: a picture shown at the width of a page has text of the size of the page's."""
    return max(12, round(math.sqrt(picture.width * picture.height) / 45))


def _system_font(size: int, otherwise: Font) -> Font:
    for name in SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return otherwise


def _percent(area: float | None) -> str:
    if area is None:
        return ""
    if area < 0.0005:
        return "<0.1%"
    return f"{100 * area:.1f}%" if area < 0.0995 else f"{100 * area:.0f}%"
