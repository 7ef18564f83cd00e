"""Pictures of more than 8 bits: every sample arrives whole, whatever the format, the order of bytes and the bands."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hand_made import GREY, GREY_ALPHA, RGB, RGBA, chunk, png
from PIL import Image

from lexiseg.data.photographs import Photograph

RNG = np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (9, 7, 3)).astype(np.uint16)
TWELVE[0, 0] = (0, 4095, 2000)
EXPECTED = np.round(TWELVE / 4095 * 255)


def tiff(array: np.ndarray, **how: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **how)
    return buffer.getvalue()


def test_12_bits_in_a_16_bit_rgb_png_are_seen_whole() -> None:
    content = Photograph.open(png(TWELVE, 16, RGB)).content()
    assert np.array_equal(content.rgb, EXPECTED)
    assert content.notes == ("its uint16 values go no further than 4,095, which is seen as white",)


def test_12_bits_in_a_16_bit_grey_png_are_seen_whole() -> None:
    assert np.array_equal(Photograph.open(png(TWELVE[..., 0], 16, GREY)).pixels()[..., 1], EXPECTED[..., 0])


@pytest.mark.parametrize(("colour", "bands"), [(GREY_ALPHA, 1), (RGBA, 3)])
def test_16_bits_with_alpha_keep_both(colour: int, bands: int) -> None:
    alpha = np.full(TWELVE.shape[:2], 65_535, np.uint16)
    alpha[0] = 0
    content = Photograph.open(png(np.dstack([TWELVE[..., :bands], alpha]), 16, colour)).content()
    assert np.array_equal(content.rgb[1:, :, 0], EXPECTED[1:, :, 0])
    assert np.array_equal(content.valid, alpha > 0)
    assert (content.rgb[0] == 255).all()


def test_the_colour_that_a_16_bit_png_calls_transparent_is_compared_whole() -> None:
    key = TWELVE[3, 4]
    other = key.copy()
    other[2] ^= 1  # equal in its high byte
    samples = TWELVE.copy()
    samples[3, 5] = other
    content = Photograph.open(png(samples, 16, RGB, chunk(b"tRNS", key.astype(">u2").tobytes()))).content()
    assert np.argwhere(~content.valid).tolist() == [[3, 4]]
    grey = Photograph.open(png(samples[..., 2], 16, GREY, chunk(b"tRNS", key[2:].astype(">u2").tobytes()))).content()
    assert np.array_equal(grey.valid, samples[..., 2] != key[2])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_12_bits_in_16_bit_tiffs_are_seen_whole(byteorder: str, compression: str | None, bands: int) -> None:
    samples = TWELVE[..., 0] if bands == 1 else TWELVE
    if bands == 4:
        samples = np.dstack([TWELVE, np.full(TWELVE.shape[:2], 65_535, np.uint16)])
    how = {"photometric": "minisblack" if bands == 1 else "rgb", "extrasamples": ["unassalpha"] if bands == 4 else None}
    data = tiff(samples, byteorder=byteorder, compression=compression, **how)
    content = Photograph.open(data).content()
    assert np.array_equal(content.rgb[..., 0], EXPECTED[..., 0])
    assert content.valid is None
    assert len(content.notes) == 1


def test_bands_that_are_stored_apart_keep_their_high_bytes() -> None:
    samples = RNG.integers(0, 65_536, (3, 9, 7)).astype(np.uint16)
    pixels = Photograph.open(tiff(samples, photometric="rgb", planarconfig="separate", compression="zlib")).pixels()
    assert np.array_equal(pixels, np.moveaxis(samples >> 8, 0, 2))


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.float32])
def test_32_bits_are_read(dtype: type) -> None:
    samples = np.array([[0, 100, 200]], dtype)
    assert Photograph.open(tiff(samples, photometric="minisblack")).pixels()[0, :, 0].tolist() == [0, 100, 200]


def test_large_numbers_without_a_sign_are_not_negative() -> None:
    samples = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    assert Photograph.open(tiff(samples, photometric="minisblack")).pixels()[0, :, 0].tolist() == [0, 128, 255]


def test_grey_with_white_at_zero_is_turned_round() -> None:
    samples = np.array([[0, 1000, 65_535]], np.uint16)
    pixels = Photograph.open(tiff(samples, photometric="miniswhite")).pixels()
    assert pixels[0, :, 0].tolist() == [255, 251, 0]


@pytest.mark.parametrize("tags", [[(281, "H", 1, 1023, True)], None])
def test_a_tiff_says_which_value_is_white(tags: list[tuple[object, ...]] | None) -> None:
    samples = np.array([[0, 100, 200]], np.uint16)
    pixels = Photograph.open(tiff(samples, photometric="minisblack", extratags=tags or ())).pixels()
    assert pixels[0, :, 0].tolist() == ([0, 25, 50] if tags else [0, 100, 200])


def test_12_bit_tiffs_say_so_by_their_bits() -> None:
    samples = np.array([[0x123, 0x456], [0x000, 0x3FF]])
    packed = b"\x12\x34\x56\x00\x03\xff"  # two samples in three bytes
    whole = bytearray(tiff(np.zeros((2, 3), np.uint8), photometric="minisblack", rowsperstrip=2, metadata=None))
    page = tifffile.TiffFile(io.BytesIO(bytes(whole))).pages[0]
    offset = page.dataoffsets[0]
    whole[offset : offset + 6] = packed
    for name, value in (("ImageWidth", 2), ("BitsPerSample", 12)):
        at = page.tags[name].valueoffset
        whole[at : at + 2] = value.to_bytes(2, "little")
    content = Photograph.open(bytes(whole)).content()
    assert np.array_equal(content.rgb[..., 0], np.round(samples / 4095 * 255))
    assert content.notes == ("4,095 is seen as white, as the file says",)


def test_a_png_says_how_many_bits_count() -> None:
    dark = np.array([[0, 100, 200]], np.uint16)
    content = Photograph.open(png(dark, 16, GREY, chunk(b"sBIT", b"\x0c"))).content()
    assert np.array_equal(content.rgb[0, :, 0], np.round(dark[0] / 4095 * 255))
    assert content.notes == ("4,095 is seen as white, as the file says",)
    scaled = np.array([[0, 32_768, 65_535]], np.uint16)  # as the specification wants it
    content = Photograph.open(png(scaled, 16, GREY, chunk(b"sBIT", b"\x0c"))).content()
    assert content.rgb[0, :, 0].tolist() == [0, 128, 255]
    assert content.notes == ()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pillows_wide_pictures_are_read_like_files(mode: str) -> None:
    array = np.array([[0, 100, 255]], {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    picture = Image.fromarray(array)
    assert picture.mode == mode
    assert Photograph.open(picture).pixels()[0, :, 0].tolist() == [0, 100, 255]


def test_a_wide_picture_is_turned_by_its_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = np.array([[0, 30_000, 65_535]], np.uint16)
    Image.fromarray(samples).save(tmp_path / "a.png", exif=exif)
    photo = Photograph.open(tmp_path / "a.png")
    assert photo.size == (3, 1)
    assert photo.pixels()[:, 0, 0].tolist() == [0, 117, 255]
