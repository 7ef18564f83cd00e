"""The legend names every class beside the picture, covers nothing, and ends with what has no label."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lexiseg.formats import legend
from lexiseg.formats.legend import Row, with_legend
from lexiseg.formats.palette import UNLABELLED, colours


def photograph(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def rows(count: int) -> list[Row]:
    table = colours([f"class {i}" for i in range(count)]).tolist()
    return [Row(f"class {i}", tuple(colour), 1 / count) for i, colour in enumerate(table)]


def colours_in(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(np.asarray(picture).reshape(-1, 3), axis=0).tolist()}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names in the legend, in order, as they are drawn."""
    names: list[str] = []
    draw = legend._Text.draw
    monkeypatch.setattr(legend._Text, "draw", lambda text, *place: (names.append(text.name), draw(text, *place)))
    return names


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (60, 60), (120, 400), (400, 300)])
@pytest.mark.parametrize("count", [1, 4, 300])
def test_the_legend_never_covers_the_picture(size: tuple[int, int], count: int) -> None:
    picture = photograph(*size)
    sheet = with_legend(picture, rows(count))
    assert np.array_equal(np.asarray(sheet)[: size[0], : size[1]], np.asarray(picture))


def test_the_legend_stands_beside_a_picture_and_under_a_wide_one() -> None:
    beside, under = (with_legend(photograph(*size), rows(4)) for size in ((400, 400), (200, 400)))
    assert (beside.width > 400, beside.height) == (True, 400)
    assert (under.width, under.height > 200) == (400, True)


def test_every_class_of_a_short_legend_has_a_swatch() -> None:
    picture = Image.new("RGB", (300, 300))
    assert {row.colour for row in rows(8)} <= colours_in(with_legend(picture, rows(8)))


@pytest.mark.parametrize(("size", "most"), [((400, 300), 400), ((150, 500), 150 + 7 * 20)])
def test_a_long_legend_is_cut_and_the_rest_counted(
    size: tuple[int, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    draw = legend._Text.draw
    monkeypatch.setattr(legend._Text, "draw", lambda text, *place: (written.append(text.name), draw(text, *place)))
    sheet = with_legend(photograph(*size), rows(300))
    assert written[:-1] == [f"class {i}" for i in range(len(written) - 1)]
    assert written[-1] == f"and {300 - (len(written) - 1)} more"
    assert sheet.height <= most


def test_letters_grow_with_the_picture() -> None:
    small, large = (with_legend(Image.new("RGB", (side, side)), rows(2)) for side in (300, 3000))
    assert 4 < (large.width - 3000) / (small.width - 300) < 8


def test_a_long_name_is_cut_with_dots() -> None:
    short, long = (
        with_legend(Image.new("RGB", (300, 300)), [Row(name, (9, 9, 9), 1.0)]) for name in ("m" * 30, "m" * 5000)
    )
    assert long.size == short.size


@pytest.mark.parametrize(
    ("area", "says"),
    [(0.0001, "<0.1%"), (0.0123, "1.2%"), (0.0994, "9.9%"), (0.0996, "10%"), (1.0, "100%")],
)
def test_areas_are_written_as_short_as_they_can_be(area: float, says: str) -> None:
    assert legend._percent(area) == says


def test_what_has_no_label_is_the_last_row_with_a_striped_swatch(written: list[str]) -> None:
    sheet = with_legend(Image.new("RGB", (300, 300)), rows(3), unlabelled=0.25)
    assert written == ["class 0", "class 1", "class 2", "unlabelled"]
    assert {UNLABELLED, legend.STRIPE} <= colours_in(sheet)


@pytest.mark.parametrize("size", [(400, 300), (150, 500), (20, 2000)])
def test_a_legend_that_is_cut_still_says_what_has_no_label(size: tuple[int, int], written: list[str]) -> None:
    with_legend(photograph(*size), rows(300), unlabelled=0.25)
    assert written[-2:] == [f"and {300 - (len(written) - 2)} more", "unlabelled"]
    assert written[:-2] == [f"class {i}" for i in range(len(written) - 2)]


def test_where_all_pixels_have_a_label_no_row_says_otherwise(written: list[str]) -> None:
    with_legend(photograph(300, 300), rows(3))
    assert written == ["class 0", "class 1", "class 2"]


def test_a_picture_without_any_label_has_that_row_alone(written: list[str]) -> None:
    with_legend(photograph(300, 300), [], unlabelled=1)
    assert written == ["unlabelled"]
