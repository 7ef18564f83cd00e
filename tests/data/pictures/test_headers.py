"""Which formats are opened, and what is said of the others."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image, features

from lexiseg.data.photographs import Photograph
from lexiseg.data.pictures import headers
from lexiseg.errors import ImageError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
JXL = b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(64)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no package added formats to Pillow."""
    monkeypatch.setattr(headers.importlib.util, "find_spec", lambda _: None)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", "AVIF"),
        (HEIC, "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0heicmiaf", "HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(40), None),  # a film
        (JXL, "JPEG XL"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"II+\0", "TIFF"),
        (b"%PDF-1.7", None),
    ],
)
def test_the_first_bytes_tell_the_format(start: bytes, kind: str | None) -> None:
    assert headers.kind_of(start) == kind


@pytest.mark.parametrize(("data", "package"), [(HEIC, "pillow-heif"), (JXL, "pillow-jxl-plugin")])
def test_a_format_that_a_package_adds_names_the_package(bare: None, data: bytes, package: str) -> None:
    with pytest.raises(ImageError, match=rf"which Pillow alone cannot read; run: pip install {package}"):
        Photograph.open(data)


def test_the_package_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("pillow_heif")
    seen = []

    def reader(file: io.BytesIO) -> Image.Image:
        seen.append(file.read())
        return Image.new("RGB", (3, 2), "red")

    package.register_heif_opener = lambda: monkeypatch.setitem(Image.OPEN, "HEIF", (reader, None))
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    monkeypatch.setattr(headers.importlib.util, "find_spec", lambda name: object() if name == "pillow_heif" else None)
    assert Photograph.open(HEIC).size == (2, 3)
    assert seen == [HEIC]


def test_a_package_that_adds_nothing_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_jxl", types.ModuleType("pillow_jxl"))
    monkeypatch.setattr(headers.importlib.util, "find_spec", lambda _: object())
    monkeypatch.delitem(Image.OPEN, "JXL", raising=False)
    with pytest.raises(ImageError, match="pillow-jxl-plugin"):
        Photograph.open(JXL)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_is_read_and_turned() -> None:
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:8] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "AVIF", quality=95, exif=exif)
    photo = Photograph.open(buffer.getvalue())
    assert photo.size == (24, 16)
    assert np.abs(photo.pixels().astype(int) - np.rot90(picture, -1)).mean() < 8
    assert ".avif" in headers.SUFFIXES
