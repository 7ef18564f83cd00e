"""Bands of TIFFs: infrared is never alpha, and what is not used is said."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from lexiseg.data.photographs import Photograph
from lexiseg.errors import ImageError

RNG = np.random.default_rng(0)
BANDS = RNG.integers(0, 256, (6, 5, 8)).astype(np.uint8)


def tiff(array: np.ndarray, **how: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **how)
    return buffer.getvalue()


def without_tag(data: bytes, code: int) -> bytes:
    """The file with one tag renamed to a private one, as writers leave ExtraSamples out."""
    tag = next(tag for tag in tifffile.TiffFile(io.BytesIO(data)).pages[0].tags if tag.code == code)
    whole = bytearray(data)
    whole[tag.offset : tag.offset + 2] = (65_000).to_bytes(2, "little")
    return bytes(whole)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", ["missing", "unspecified"])
def test_a_fourth_band_that_is_not_called_alpha_is_not_alpha(compression: str | None, dtype: type, extra: str) -> None:
    bands = BANDS[..., :4].astype(dtype) * (257 if dtype is np.uint16 else 1)
    bands[0, 0, :3] = np.iinfo(dtype).max
    data = tiff(bands, photometric="rgb", extrasamples=["unspecified"], compression=compression)
    content = Photograph.open(without_tag(data, 338) if extra == "missing" else data).content()
    expected = BANDS[..., :3].copy()
    expected[0, 0] = 255
    assert np.array_equal(content.rgb, expected)
    assert content.valid is None
    assert content.notes == (
        "it has 4 bands; bands 1, 2 and 3 are seen as red, green and blue, the others are not used",
    )


@pytest.mark.parametrize("count", [3, 4, 5, 6])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"rowsperstrip": 2}, {"tile": (16, 16)}])
def test_grey_pictures_of_several_bands_are_seen_as_rgb(count: int, planar: str, how: dict[str, object]) -> None:
    """The form in which GDAL writes bands that it has no colours for."""
    bands = BANDS[..., :count]
    stored = bands if planar == "contig" else np.moveaxis(bands, 2, 0)
    extra = ["unspecified"] * (count - 1)
    data = tiff(stored, photometric="minisblack", planarconfig=planar, extrasamples=extra, **how)
    content = Photograph.open(data).content()
    assert np.array_equal(content.rgb, bands[..., :3])
    assert len(content.notes) == (count > 3)


@pytest.mark.parametrize("extra", ["missing", "unspecified"])
def test_of_two_bands_the_first_is_grey(extra: str) -> None:
    data = tiff(BANDS[..., :2], photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"])
    content = Photograph.open(without_tag(data, 338) if extra == "missing" else data).content()
    assert np.array_equal(content.rgb, np.repeat(BANDS[..., :1], 3, axis=2))
    assert content.notes == ("it has 2 bands; band 1 is seen as grey, the others are not used",)


@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_that_is_called_so_stays_alpha(bands: int) -> None:
    rgba = BANDS[..., :bands].copy()
    rgba[..., -1] = 255
    rgba[2, 3, -1] = 0
    kind = {"photometric": "rgb" if bands == 4 else "minisblack", "planarconfig": "contig"}
    content = Photograph.open(tiff(rgba, extrasamples=["unassalpha"], **kind)).content()
    assert np.argwhere(~content.valid).tolist() == [[2, 3]]
    assert content.notes == ("its fully transparent pixels stay unlabelled",)


def test_premultiplied_grey_with_alpha_is_read() -> None:
    grey = np.dstack([np.full((2, 2), 100, np.uint8), np.full((2, 2), 200, np.uint8)])
    data = tiff(grey, photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"])
    assert Photograph.open(data).pixels().shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("array", "how", "says"),
    [
        (
            np.zeros((4, 4, 13), np.uint16),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "13 bands of 16 bits",
        ),
        (np.zeros((4, 4, 3), np.float32), {"photometric": "rgb"}, "3 floating-point bands of 32 bits"),
        (np.zeros((3, 4, 4), np.uint16), {"photometric": "rgb", "planarconfig": "separate"}, "keeps its 3 bands"),
        (np.zeros((4, 4), np.float64), {"photometric": "minisblack"}, "1 floating-point band of 64 bits"),
    ],
)
def test_bands_that_cannot_be_read_are_counted_in_a_sentence(array: np.ndarray, how: dict[str, str], says: str) -> None:
    with pytest.raises(ImageError, match=rf"^the image .*{says}.*gdal_translate"):
        Photograph.open(tiff(array, **how))


def test_jpeg_and_cmyk_inside_a_tiff_still_work() -> None:
    picture = Image.fromarray(np.full((16, 16, 3), (200, 30, 30), np.uint8))
    for mode, how in (("RGB", {"compression": "jpeg"}), ("CMYK", {}), ("YCbCr", {"compression": "jpeg"})):
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, "TIFF", **how)
        assert np.abs(Photograph.open(buffer.getvalue()).pixels().astype(int) - (200, 30, 30)).max() < 8


def test_large_tiffs_with_64_bit_offsets_are_read() -> None:
    assert np.array_equal(
        Photograph.open(tiff(BANDS[..., :3], photometric="rgb", bigtiff=True)).pixels(), BANDS[..., :3]
    )
