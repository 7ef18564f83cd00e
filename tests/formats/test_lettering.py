"""Words are written with a font that has their letters, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageFont

from lexiseg.formats import lettering
from lexiseg.formats.lettering import font_for, letter_size, shortened, writable

MISSING = "\U0010fffe"  # never a letter, by the Unicode standard


@pytest.mark.parametrize("text", ["road", "Cafe 3", "person (sitting)"])
def test_pillows_own_font_writes_english(text: str) -> None:
    assert isinstance(font_for(text, 20), ImageFont.FreeTypeFont)
    assert font_for(text, 20).getname() == ImageFont.load_default(20).getname()  # type: ignore[union-attr]
    assert writable(text, "class 3") == text


@pytest.mark.parametrize("text", [MISSING, f"road {MISSING}", "\u200b", " ", ""])
def test_what_no_font_can_write_is_something_else(text: str) -> None:
    assert writable(text, "class 3") == "class 3"
    assert font_for(text, 20).getlength("x") > 0


def test_without_fonts_of_the_system_only_pillows_letters_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ("no such font.ttf",))
    assert [writable(text, "class 3") for text in ("road", "улица", "日本")] == ["road", "class 3", "class 3"]


def test_a_font_of_the_system_is_used_where_only_that_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    # the system may have none, so one is made up: it has a "ж" and nothing else
    monkeypatch.setattr(
        lettering, "_drawn", lambda font, letter: b"j" if (font, letter) == ("other.ttf", "ж") else b"o"
    )
    monkeypatch.setattr(lettering, "SYSTEM_FONTS", ("empty.ttf", "other.ttf"))
    assert [lettering._font_name(text) for text in ("ж", "жж", "жa")] == ["other.ttf", "other.ttf", None]


def test_long_texts_end_in_dots_and_short_ones_stay() -> None:
    font = font_for("m", 20)
    for text in ("m" * 30, "m" * 5000, "two words " * 9):
        short = shortened(text, font, 20)
        assert short.endswith("…")
        assert text.startswith(short[:-1])
        assert font.getlength(short) <= lettering.LONGEST * 20
    assert shortened("road", font, 20) == "road"


def test_letters_grow_with_the_picture() -> None:
    sizes = [letter_size(side, side) for side in (1, 300, 900, 3000)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 12
    assert np.isclose(letter_size(4000, 1000), letter_size(2000, 2000))
