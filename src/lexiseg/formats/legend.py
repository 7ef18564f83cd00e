"""Puts a legend beside or under a picture, never over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from lexiseg.formats.lettering import Font, font_for, letter_size, shortened
from lexiseg.formats.palette import UNLABELLED

__all__ = ["Row", "with_legend"]

PAPER, INK, FAINT, STRIPE = (255, 255, 255), (33, 33, 33), (115, 115, 115), (70, 70, 70)
LEAST_LINES = 6  # the legend of a small or wide picture has room for so many rows at least


@dataclass(frozen=True)
class Row:
    """A class of the picture.

    colour: sRGB 0-255.
    area: fraction of the picture, 0-1.
    """

    name: str
    colour: tuple[int, int, int]
    area: float


def with_legend(picture: Image.Image, rows: Sequence[Row], *, unlabelled: float = 0) -> Image.Image:
    """The picture in the top left corner of a larger sheet, and a line of text for each class.

    The legend stands beside the picture, or under a wide one. Rows that find no place are counted in a line of their
    own. unlabelled: fraction of the picture without a label, 0-1; a last row says it unless it is 0.
    """
    size = letter_size(picture.width, picture.height)
    line, beside = round(1.6 * size), 5 * picture.height >= 3 * picture.width
    texts = [_Text.of(row.name, size, row) for row in rows]
    last = [_Text.of("unlabelled", size, Row("", UNLABELLED, unlabelled), striped=True)] if unlabelled else []
    cell = 2 * size + max(text.width for text in texts + last)
    columns = 1 if beside else max(1, (picture.width - size) // cell)
    lines = max(LEAST_LINES, picture.height // line - 1) if beside else LEAST_LINES
    if (room := columns * lines - len(last)) < len(texts):
        texts[room - 1 :] = [_Text.of(f"and {len(rows) - room + 1} more", size)]
    texts += last
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
    """A line of the legend, made to fit; widths in pixels. Without a row it only says something."""

    name: str
    size: int
    font: Font
    digits: Font
    row: Row | None
    striped: bool

    @classmethod
    def of(cls, name: str, size: int, row: Row | None = None, *, striped: bool = False) -> _Text:
        font = font_for(name, size)
        return cls(shortened(name, font, size), size, font, font_for("0", size), row, striped)

    @property
    def width(self) -> int:
        return round(1.6 * self.size + self.font.getlength(self.name) + self.size + self.digits.getlength("88.8%"))

    def draw(self, draw: ImageDraw.ImageDraw, x: int, y: int, width: int) -> None:
        middle = y + 0.8 * self.size
        draw.text((x + 1.6 * self.size, middle), self.name, INK, self.font, anchor="lm")
        if self.row is not None:
            self._draw_swatch(draw, x, middle - self.size / 2, self.row.colour)
            draw.text((x + width, middle), _percent(self.row.area), FAINT, self.digits, anchor="rm")

    def _draw_swatch(self, draw: ImageDraw.ImageDraw, x: float, y: float, colour: tuple[int, int, int]) -> None:
        side, width = self.size, max(1, self.size // 8)
        draw.rounded_rectangle((x, y, x + side, y + side), radius=side / 5, fill=colour)
        if self.striped:
            draw.line((x + side / 2, y, x, y + side / 2), STRIPE, width)
            draw.line((x + side, y, x, y + side), STRIPE, width)
            draw.line((x + side, y + side / 2, x + side / 2, y + side), STRIPE, width)


def _percent(area: float) -> str:
    if area < 0.0005:
        return "<0.1%"
    return f"{100 * area:.1f}%" if area < 0.0995 else f"{100 * area:.0f}%"
