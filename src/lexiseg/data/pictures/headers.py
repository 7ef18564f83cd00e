"""Opens picture files of allowed formats, reading headers alone."""

from __future__ import annotations

import importlib
import importlib.util
import struct
from collections.abc import Callable
from typing import IO, Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL import Image as Pillow

from lexiseg.data.pictures.tiff_bands import TiffFile
from lexiseg.errors import ImageError

__all__ = ["DAMAGE", "KINDS", "NEEDED", "SUFFIXES", "bomb", "header", "kind_of", "reason"]

# Pillow decoders allowed on untrusted files: its own list has had bombs in FITS, PDF, EPS ...
# Called directly because `Image.open` applies a pixel limit of its own, which is one number for the whole process.
_READERS: dict[str, Callable[..., Any]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffFile,
    "GIF": GifImagePlugin.GifImageFile,
}
if features.check("avif"):
    _READERS["AVIF"] = AvifImagePlugin.AvifImageFile
# Formats that a package adds to Pillow: the module to import, and the package that brings it
_ADDED = {"HEIC": ("pillow_heif", "pillow-heif"), "JPEG XL": ("pillow_jxl", "pillow-jxl-plugin")}
_REGISTERED = {"HEIC": "HEIF", "JPEG XL": "JXL"}  # what Pillow's registry calls them

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    **dict.fromkeys(TiffImagePlugin.PREFIXES, "TIFF"),
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "JPEG XL",
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_START = 64  # bytes that tell what a file is

KINDS = {  # suffix -> format
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
}
# what Pillow raises for a file that is not what it claims to be
DAMAGE = (OSError, SyntaxError, ValueError, IndexError, TypeError, KeyError, EOFError, struct.error)


def _readable(kind: str) -> bool:
    return kind in _READERS or (kind in _ADDED and importlib.util.find_spec(_ADDED[kind][0]) is not None)


SUFFIXES = tuple(sorted(suffix for suffix, kind in KINDS.items() if _readable(kind)))  # of what can be read here
NEEDED = {  # format -> what to do where it cannot be read here
    "HEIC": "run: pip install pillow-heif",
    "JPEG XL": "run: pip install pillow-jxl-plugin",
    "AVIF": "run: pip install --upgrade pillow",
}


def kind_of(start: bytes) -> str | None:
    """The format of a file by its first 64 bytes; None for one that lexiseg does not know."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        # the brand, or one of the compatible brands behind it
        if b"avif" in start or b"avis" in start:
            return "AVIF"
        return "HEIC" if start[8:12] in _HEIC_BRANDS else None
    return next((kind for sign, kind in _SIGNATURES.items() if start.startswith(sign)), None)


def header(name: str, file: IO[bytes]) -> Pillow.Image:
    """The picture with nothing but its header read; raises `ImageError`, which begins with `name`."""
    try:
        start = file.read(_START)
        file.seek(0)
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror or error}; copy it to a local disk") from error
    if not start:
        raise ImageError(f"{name} is empty (0 bytes); copy it again from where it came")
    kind = kind_of(start)
    if kind is None:
        raise ImageError(
            f"{name} is not a photograph in {', '.join(_READERS)}, whatever it is called; convert it to PNG"
        )
    reader = _reader(name, kind)
    try:
        image: Pillow.Image = reader(file)
        return image
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error
    except Pillow.DecompressionBombError as error:
        raise bomb(name, error) from error
    except DAMAGE as error:
        raise ImageError(f"the {kind} header of {name} is damaged ({reason(error)}); copy or save it again") from error


def bomb(name: str, error: Pillow.DecompressionBombError) -> ImageError:
    """What to say of a file with more pixels than Pillow itself allows."""
    return ImageError(f"{name} is refused by Pillow ({error}); raise PIL.Image.MAX_IMAGE_PIXELS if you trust it")


def reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _reader(name: str, kind: str) -> Callable[..., Any]:
    if kind in _READERS:
        return _READERS[kind]
    if _readable(kind):
        module = importlib.import_module(_ADDED[kind][0])  # pillow_jxl registers itself, pillow_heif when asked
        getattr(module, "register_heif_opener", lambda: None)()
        if _REGISTERED[kind] in Pillow.OPEN:
            return Pillow.OPEN[_REGISTERED[kind]][0]
    raise ImageError(f"{name} is a {kind} file, which Pillow alone cannot read; {NEEDED[kind]}, or save it as JPEG")
