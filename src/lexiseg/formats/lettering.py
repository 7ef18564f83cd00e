"""Finds a font for a word, and its letters' size."""

from __future__ import annotations

import functools
import math

from PIL import ImageFont

__all__ = ["Font", "font_for", "letter_size", "shortened", "writable"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# looked for by name where Pillow's own font lacks a letter: what Linux, macOS and Windows usually have
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "PingFang.ttc",
    "arial.ttf", "segoeui.ttf", "msyh.ttc", "malgun.ttf", "Nirmala.ttc",
)  # fmt: skip
NO_LETTER = "\U0010ffff"  # stands for nothing in any font, so it is drawn as a missing letter is
LONGEST = 14  # of a text, in letter sizes


def letter_size(width: int, height: int) -> int:
    """In pixels, for a picture of this size: shown at the width of a page it has letters of the size of the page's."""
    return max(12, round(math.sqrt(width * height) / 45))


def writable(text: str, otherwise: str) -> str:
    """The text, or `otherwise` where no font here has all of its letters."""
    return text if _font_name(text) is not None else otherwise


def font_for(text: str, size: int) -> Font:
    """Pillow's own font, or a font of the system where only that has all letters of the text."""
    font = _font(_font_name(text) or "", size)
    assert font is not None, "it was there before"
    return font


def shortened(text: str, font: Font, size: int) -> str:
    """The text, or its beginning and dots where it is longer than LONGEST."""
    text = text[:100]  # longer than any that fits
    while font.getlength(text) > LONGEST * size:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    return text


def _font_name(text: str) -> str | None:
    return next((name for name in ("", *SYSTEM_FONTS) if _can_write(name, text)), None)


def _can_write(font: str, text: str) -> bool:
    drawn = [_drawn(font, letter) for letter in set(text) if not letter.isspace()]
    return any(map(any, drawn)) and _drawn(font, NO_LETTER) not in drawn


@functools.lru_cache(maxsize=4096)
def _drawn(name: str, letter: str) -> bytes:
    font = _font(name, 16)
    return b"" if font is None else bytes(font.getmask(letter))


@functools.lru_cache(maxsize=64)
def _font(name: str, size: int) -> Font | None:
    """Pillow's own font where the name is empty; None where the system has no such font."""
    if not name:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
