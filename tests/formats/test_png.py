"""The label map writer, read back by Pillow, which knows nothing of it."""

from __future__ import annotations

import io
import struct
import zlib

import hand_made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lexiseg.formats import png

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)


def read(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


@given(st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)))
def test_pillow_reads_back_every_label(labels: np.ndarray) -> None:
    picture = read(png.encode(labels))
    assert picture.mode == ("L" if labels.dtype == np.uint8 else "I;16")
    assert np.array_equal(np.asarray(picture), labels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_stored_numbers_are_read_at_any_depth(bits: int) -> None:
    ids = np.arange(min(2**bits, 300)).reshape(2, -1)
    with PngImageFile(io.BytesIO(hand_made.png(ids, bits))) as picture:
        assert np.array_equal(png.stored(picture), ids)


def test_interlaced_label_maps_are_read() -> None:
    """Adam7, made by hand: the first of the seven passes has pixel (0, 0), the sixth has pixel (0, 1)."""
    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 1)
    lines = zlib.compress(b"\0\x30" + b"\0\xf0")
    body = hand_made.chunk(b"IHDR", header) + hand_made.chunk(b"IDAT", lines) + hand_made.chunk(b"IEND", b"")
    with PngImageFile(io.BytesIO(png.SIGNATURE + body)) as picture:
        assert png.stored(picture).tolist() == [[3, 15]]


def test_the_palette_is_kept() -> None:
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    picture = read(png.encode(labels, palette))
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(np.asarray(picture.convert("RGB")), palette[labels])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rows_of_several_blocks_continue_each_other(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (67, 53), dtype)
    at_once = png.encode(labels)
    monkeypatch.setattr(png, "BLOCK", 3 * 53 * labels.itemsize)
    assert zlib.decompress(pixels(png.encode(labels))) == zlib.decompress(pixels(at_once))
    assert np.array_equal(np.asarray(read(png.encode(labels))), labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_maps_that_are_views_are_written_as_they_look(dtype: type) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (40, 60)).astype(dtype)
    for view in (labels.T, labels[::-1, ::2], np.asfortranarray(labels), labels.astype(labels.dtype.newbyteorder())):
        assert np.array_equal(np.asarray(read(png.encode(view))), view)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_regions_take_hardly_more_than_pillow_makes_of_them(dtype: type) -> None:
    classes = min(847, np.iinfo(dtype).max)
    labels = np.kron(np.random.default_rng(0).integers(0, classes, (16, 16)), np.ones((32, 32), int)).astype(dtype)
    theirs = io.BytesIO()
    Image.fromarray(labels).save(theirs, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    assert len(png.encode(labels)) <= 1.2 * len(theirs.getvalue())


def pixels(content: bytes) -> bytes:
    """What stands in the one IDAT chunk."""
    start = content.index(b"IDAT")
    length = int.from_bytes(content[start - 4 : start], "big")
    return content[start + 4 : start + 4 + length]
