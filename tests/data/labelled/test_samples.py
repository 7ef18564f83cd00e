from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lexiseg.data.labelled.labels import Png
from lexiseg.data.labelled.samples import IdTable, Sample, ignore_value
from lexiseg.data.photographs import Photograph
from lexiseg.errors import DataError

LABEL = Png(Path("somewhere.png"))


@given(st.dictionaries(st.integers(0, 300), st.integers(0, 40), min_size=1), st.lists(st.integers(0, 300)))
def test_the_table_is_the_dictionary_with_a_rest(index_of: dict[int, int], others: list[int]) -> None:
    table = IdTable.of(index_of, others=others, rest=41, ignore=255)
    for number in {*index_of, *others}:
        assert table(np.array([[number]]), LABEL).tolist() == [[index_of.get(number, 41)]]
    for number in set(range(310)) - {*index_of, *others}:
        with pytest.raises(DataError, match=rf"somewhere\.png holds id {number}, "):
            table(np.array([[number]]), LABEL)


def test_255_classes_fit_in_a_byte_beside_the_ignore_value() -> None:
    assert (ignore_value(255), ignore_value(256)) == (255, 65535)
    byte = IdTable.of({7: 254}, others=[8], rest=255, ignore=255)(np.array([[7, 8]]), LABEL)
    assert (byte.dtype, byte.tolist()) == (np.uint8, [[254, 255]])
    wide = IdTable.of({7: 255}, others=[8], rest=65535, ignore=65535)(np.array([[7, 8]]), LABEL)
    assert (wide.dtype, wide.tolist()) == (np.uint16, [[255, 65535]])


def test_a_label_map_has_two_axes() -> None:
    with pytest.raises(DataError, match=r"somewhere\.png holds an array of shape \(2, 2, 3\)"):
        IdTable.of({0: 0}, others=(), rest=0, ignore=255)(np.zeros((2, 2, 3), np.uint8), LABEL)


def photograph(path: Path, *, orientation: int | None) -> None:
    picture = Image.new("RGB", (4, 2), (250, 0, 0))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture.save(path, exif=exif)


def test_only_upright_samples_follow_exif(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", orientation=6)
    Image.fromarray(np.zeros((4, 2), np.uint8)).save(tmp_path / "a.png")
    table = IdTable.of({0: 0}, others=(), rest=0, ignore=255)
    stored, upright = (
        Sample("a", tmp_path / "a.jpg", Png(tmp_path / "a.png"), table, upright=flag) for flag in (False, True)
    )
    assert stored.image().shape == (2, 4, 3)
    assert upright.read()[0].shape == (4, 2, 3)
    with pytest.raises(DataError, match=r"a\.jpg is 4x2 pixels and its label map .*a\.png is 2x4"):
        stored.read()


def own(folder: Path, photo: np.ndarray, ids: np.ndarray) -> Sample:
    folder.mkdir(exist_ok=True)
    Image.fromarray(photo).save(folder / "a.tif")
    Image.fromarray(ids).save(folder / "a.png")
    table = IdTable.of({0: 0, 1: 1}, others=(), rest=0, ignore=255)
    return Sample("a", folder / "a.tif", Png(folder / "a.png"), table, upright=True)


def test_photographs_of_any_depth_are_seen_as_segment_sees_them(tmp_path: Path) -> None:
    deep = np.array([[0, 1000, 4095]], np.uint16)
    sample = own(tmp_path, deep, np.zeros((1, 3), np.uint8))
    assert np.array_equal(sample.image(), Photograph.open(tmp_path / "a.tif").pixels())
    assert sample.image()[0, :, 0].tolist() == [0, 62, 255]


def test_pixels_that_are_fully_transparent_are_not_scored(tmp_path: Path) -> None:
    photo = np.full((1, 3, 4), 255, np.uint8)
    photo[0, 1, 3] = 0
    assert own(tmp_path, photo, np.array([[0, 1, 1]], np.uint8)).read()[1].tolist() == [[0, 255, 1]]


def test_a_photograph_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    sample = own(tmp_path, np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8))
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"a\.tif"):
        sample.image()
    (tmp_path / "a.tif").unlink()
    with pytest.raises(DataError, match=r"a\.tif cannot be read"):
        sample.image()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_photographs_of_any_mode_are_rgb(tmp_path: Path, mode: str) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    Image.new(mode, (3, 2)).save(tmp_path / f"a{suffix}")
    image = Sample("a", tmp_path / f"a{suffix}", LABEL, IdTable.of({0: 0}, others=(), rest=0, ignore=255)).image()
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
