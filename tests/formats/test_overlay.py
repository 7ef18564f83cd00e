"""An overlay has painted regions, words and a legend; a photograph is read from anything that is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lexiseg.errors import ImageError
from lexiseg.formats import overlay
from lexiseg.formats.legend import Row
from lexiseg.formats.painting import paint

LABELS = np.array([0, 1, 255], np.uint8).repeat(100)[None].repeat(120, 0)  # three columns
ROWS = {1: Row("sky", (56, 184, 248), 1 / 3), 0: Row("grass", (136, 168, 40), 1 / 3)}


def photograph(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def drawn(rows: dict[int, Row] = ROWS, *, legend: bool = True, words: bool = True) -> npt.NDArray[np.uint8]:
    photo = photograph(*LABELS.shape)
    return np.asarray(overlay.draw(photo, LABELS, rows, unlabelled=1 / 3, alpha=0.6, legend=legend, words=words))


def test_without_words_and_legend_the_label_map_is_only_painted() -> None:
    plain = paint(photograph(*LABELS.shape), LABELS, {label: row.colour for label, row in ROWS.items()}, alpha=0.6)
    assert np.array_equal(drawn(legend=False, words=False), np.asarray(plain))


def test_words_are_written_on_classes_and_on_what_has_none() -> None:
    changed = (drawn(legend=False) != drawn(legend=False, words=False)).any(-1)
    assert [int(changed[:, left : left + 100].any()) for left in (0, 100, 200)] == [1, 1, 1]


def test_the_legend_is_beside_the_picture() -> None:
    assert np.array_equal(drawn()[:120, :300], drawn(legend=False))
    assert drawn().size > drawn(legend=False).size


@pytest.mark.parametrize("name", ["Straße", "日本", "улица", "\u200b", "\U0010fffd", "m" * 5000])
def test_a_name_in_any_script_can_be_drawn(name: str) -> None:
    assert not np.array_equal(drawn({0: Row(name, (9, 9, 9), 1.0)}), drawn({0: Row("x", (9, 9, 9), 1.0)}))


def test_a_name_that_no_font_can_write_is_the_number_of_its_class() -> None:
    unknown, number = ({**ROWS, 1: Row(name, (9, 9, 9), 0.5)} for name in ("\U0010fffd", "class 1"))
    assert np.array_equal(drawn(unknown), drawn(number))


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
