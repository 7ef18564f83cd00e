"""The drawing says what the label map says: pure frames, tinted regions, a legend that covers nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage

from lexiseg.errors import ImageError
from lexiseg.formats import overlay
from lexiseg.formats.overlay import LegendRow
from lexiseg.formats.palette import UNLABELLED, colours

Labels = npt.NDArray[np.uint8]


def photograph(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def blobs(height: int, width: int, classes: int) -> Labels:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(classes + 1, height, width)), (0, 4, 4))
    labels = noise.argmax(0).astype(np.uint8)
    return np.where(labels == classes, 255, labels).astype(np.uint8)


def painted(labels: Labels, photo: Image.Image | None, classes: int, alpha: float = 0.6) -> npt.NDArray[np.int64]:
    table = colours([f"class {i}" for i in range(classes)])
    return np.asarray(overlay.paint(photo, labels, table, unlabelled=UNLABELLED, alpha=alpha)).astype(int)


def rows(count: int) -> list[LegendRow]:
    table = colours([f"class {i}" for i in range(count)]).tolist()
    return [LegendRow(f"class {i}", tuple(colour), 1 / count) for i, colour in enumerate(table)]


def colours_in(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.unique(np.asarray(picture).reshape(-1, 3), axis=0).tolist()}


def test_frames_are_the_pixels_beside_another_label() -> None:
    labels = blobs(60, 80, 5)
    cross = ndimage.generate_binary_structure(2, 1)
    lowest, highest = (filter_(labels, footprint=cross) for filter_ in (ndimage.minimum_filter, ndimage.maximum_filter))
    pure = painted(labels, None, 5)
    drawn = painted(labels, Image.new("RGB", (80, 60)), 5, alpha=0)
    framed = (lowest != highest) & (labels < 5)
    assert np.array_equal(drawn[framed], pure[framed])
    assert (drawn[~framed] <= overlay.SHADES[0]).all()  # the black photograph


def test_alpha_goes_from_the_photograph_to_the_pure_colour() -> None:
    labels, photo = np.zeros((40, 40), np.uint8), photograph(40, 40)
    (colour,) = colours(["class 0"]).astype(int)
    shades = [np.abs(painted(labels, photo, 1, alpha) - colour).max() for alpha in (0, 0.3, 0.6, 0.9, 1)]
    assert shades == sorted(shades, reverse=True)
    assert shades[-1] == 0


def test_the_photograph_lends_its_light_but_not_its_hue() -> None:
    labels = np.zeros((1, 3), np.uint8)
    red, green, white = painted(
        labels, Image.fromarray(np.array([[(255, 0, 0), (0, 130, 0), (255,) * 3]], np.uint8)), 1
    )[0]
    assert np.abs(red - green).max() <= 1  # both are 76 in grey
    assert (white > red).all()


def test_pixels_without_a_label_show_the_grey_photograph() -> None:
    photo = photograph(30, 40)
    labels = np.full((30, 40), 255, np.uint8)
    grey = np.asarray(photo.convert("L"))
    assert np.array_equal(painted(labels, photo, 3), np.repeat(grey[:, :, None], 3, 2))


def test_without_a_photograph_the_colours_are_pure() -> None:
    labels = blobs(30, 40, 3)
    table = np.array([*colours(["class 0", "class 1", "class 2"]), UNLABELLED])
    assert np.array_equal(painted(labels, None, 3), table[np.minimum(labels, 3)])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (60, 60), (120, 400), (400, 300)])
@pytest.mark.parametrize("count", [1, 4, 300])
def test_the_legend_never_covers_the_picture(size: tuple[int, int], count: int) -> None:
    picture = photograph(*size)
    sheet = overlay.with_legend(picture, rows(count))
    assert np.array_equal(np.asarray(sheet)[: size[0], : size[1]], np.asarray(picture))


def test_the_legend_stands_beside_a_picture_and_under_a_wide_one() -> None:
    beside, under = (overlay.with_legend(photograph(*size), rows(4)) for size in ((400, 400), (200, 400)))
    assert (beside.width > 400, beside.height) == (True, 400)
    assert (under.width, under.height > 200) == (400, True)


def test_every_class_of_a_short_legend_has_a_swatch() -> None:
    picture = Image.new("RGB", (300, 300))
    assert {row.colour for row in rows(8)} <= colours_in(overlay.with_legend(picture, rows(8)))


@pytest.mark.parametrize(("size", "most"), [((400, 300), 400), ((150, 500), 150 + 7 * 20)])
def test_a_long_legend_is_cut_and_the_rest_counted(
    size: tuple[int, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    draw = overlay._Text.draw
    monkeypatch.setattr(overlay._Text, "draw", lambda text, *place: (written.append(text.name), draw(text, *place)))
    sheet = overlay.with_legend(photograph(*size), rows(300))
    assert written[:-1] == [f"class {i}" for i in range(len(written) - 1)]
    assert written[-1] == f"and {300 - (len(written) - 1)} more"
    assert sheet.height <= most


def test_letters_grow_with_the_picture() -> None:
    small, large = (overlay.with_legend(Image.new("RGB", (side, side)), rows(2)) for side in (300, 3000))
    assert 4 < (large.width - 3000) / (small.width - 300) < 8


def test_a_long_name_is_cut_with_dots() -> None:
    short, long = (
        overlay.with_legend(Image.new("RGB", (300, 300)), [LegendRow(name, (9, 9, 9), 1.0)])
        for name in ("m" * 30, "m" * 5000)
    )
    assert long.size == short.size


@pytest.mark.parametrize("name", ["Straße", "日本", "улица", "\u200b"])
def test_a_name_in_any_script_can_be_drawn(name: str) -> None:
    overlay.with_legend(Image.new("RGB", (100, 100)), [LegendRow(name, (9, 9, 9), 1.0)])


@pytest.mark.parametrize(
    ("area", "says"),
    [(0.0001, "<0.1%"), (0.0123, "1.2%"), (0.0994, "9.9%"), (0.0996, "10%"), (1.0, "100%"), (None, "")],
)
def test_areas_are_written_as_short_as_they_can_be(area: float | None, says: str) -> None:
    assert overlay._percent(area) == says


@pytest.mark.parametrize("kind", ["path", "text", "PIL", "array", "grey array", "alpha"])
def test_a_photograph_is_a_path_a_picture_or_an_array(tmp_path: Path, kind: str) -> None:
    photo = photograph(20, 30)
    photo.save(tmp_path / "a.png")
    given = {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "PIL": photo,
        "array": np.asarray(photo),
        "grey array": np.asarray(photo.convert("L")),
        "alpha": photo.convert("RGBA"),
    }[kind]
    expected = photo.convert("L").convert("RGB") if kind == "grey array" else photo
    assert np.array_equal(np.asarray(overlay.read(given, size=(20, 30))), np.asarray(expected))


def test_a_photograph_taken_sideways_is_drawn_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    photograph(20, 30).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(np.asarray(photograph(20, 30)), -1)
    assert np.array_equal(np.asarray(overlay.read(tmp_path / "a.png", size=(30, 20))), upright)


def test_a_photograph_of_another_size_is_refused() -> None:
    with pytest.raises(ImageError, match="20x30 but its label map 30x20"):
        overlay.read(photograph(20, 30), size=(30, 20))


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_photograph_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.jpg cannot be read"):
        overlay.read(path, size=(2, 2))


def test_a_truncated_photograph_is_an_image_error(tmp_path: Path) -> None:
    photograph(200, 300).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"b\.jpg cannot be read.*truncated"):
        overlay.read(tmp_path / "b.jpg", size=(200, 300))


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_an_array_that_is_no_photograph_is_an_image_error(array: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ImageError):
        overlay.read(array, size=(4, 4))
