"""Photographs in: any file, array or picture as RGB pixels, and every way it can be broken as an `ImageError`.

A `Photograph` is opened first and decoded later. Its size comes from the header, so that a decompression bomb is
refused before a byte of it is unpacked, and a JPEG that will be shown to the network at a fraction of its size is
decoded at a fraction of the work.
"""

from __future__ import annotations

import glob
import io
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL import Image as Pillow

from lexiseg.errors import ImageError

__all__ = ["MAX_PIXELS", "SUFFIXES", "ImageSource", "Photograph", "find", "read"]

MAX_PIXELS = 100_000_000
SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

# What Pillow may try on a file that somebody sent, and nothing else: its list has had bombs in FITS, PDF, EPS ...
# Called directly because `Image.open` applies a pixel limit of its own, which is one number for the whole process.
_READERS: dict[str, Callable[..., Any]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
# EXIF orientation -> what turns the stored picture upright
_UPRIGHT = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag
# what Pillow raises for a file that is not what it claims to be
_DAMAGE = (OSError, SyntaxError, ValueError, IndexError, TypeError, KeyError, EOFError, struct.error)


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph that is open but not decoded.

    name: what messages call it.
    size: (height, width) in pixels, the way a person sees it: EXIF orientation applied.
    """

    name: str
    size: Size
    _decode: Callable[[Size | None], Pixels]

    @classmethod
    def open(cls, source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Photograph:
        """Reads the header only.

        source: a path, bytes, a binary file, a Pillow image, or an array [H, W], [H, W, 1 | 3 | 4] of uint8 or uint16.
        max_pixels: photographs with more are refused before they are decoded.

        Raises `ImageError` for anything that is not a photograph.
        """
        if isinstance(source, Photograph):
            return source
        if isinstance(source, np.ndarray):
            return _from_array(source, max_pixels)
        if isinstance(source, Pillow.Image):
            return _from_pillow(source, max_pixels)
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            return _from_file("the image", lambda: io.BytesIO(data), max_pixels)
        if isinstance(source, (str, os.PathLike)):
            return _from_path(Path(source), max_pixels)
        if hasattr(source, "read"):
            data, name = source.read(), str(getattr(source, "name", "the image"))
            if not isinstance(data, bytes):
                raise ImageError(f"{name} was opened as text; open it with mode 'rb'")
            return _from_file(name, lambda: io.BytesIO(data), max_pixels)
        raise ImageError(
            f"an image cannot be a {type(source).__name__}; give a path, bytes, a Pillow image or an array [H, W, 3]"
        )

    def pixels(self, at_least: Size | None = None) -> Pixels:
        """RGB [H, W, 3]: animations give their first frame, transparency lies on white, 16 bits are scaled to 8.

        at_least: (height, width); where a JPEG is much larger it may come back at 1/2, 1/4 or 1/8 of its size.

        Raises `ImageError` for a file that is damaged behind its header.
        """
        return self._decode(at_least)


ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Pillow.Image | npt.NDArray[Any] | Photograph


def read(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A photograph at its full size as RGB [H, W, 3]; raises `ImageError`."""
    return Photograph.open(source, max_pixels=max_pixels).pixels()


def find(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The photographs that files, folders (with all folders inside) and glob patterns name, each once.

    A folder gives the files whose suffix is in SUFFIXES, sorted, hidden ones left out; a file that is named is taken
    as it is. Raises `ImageError` for a path that does not exist, a folder that cannot be read, or nothing found.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found: dict[Path, None] = {}
    for path in paths:
        try:
            found |= dict.fromkeys(_find(Path(path)))
        except OSError as error:
            raise ImageError(f"cannot look at {path}: {error.strerror or error}; allow reading it") from error
    return list(found)


def _find(path: Path) -> list[Path]:
    if path.is_dir():
        found = _in_folder(path)
        if not found:
            raise ImageError(f"there are no photographs in {path}; looked for {', '.join(SUFFIXES)}")
        return found
    if path.exists():
        return [path]
    if not glob.has_magic(str(path)):
        raise ImageError(
            f"there is no {path}; check the spelling, or name a folder or a pattern such as 'photos/*.jpg'"
        )
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    found = [photo for match in matches for photo in (_in_folder(match) if match.is_dir() else [match])]
    if not found:
        raise ImageError(f"nothing matches {path}; check the pattern and the folder")
    return found


def _in_folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise ImageError(
            f"cannot read the folder {error.filename or folder}: {error.strerror or error}; allow it"
        ) from error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in names if _is_photograph(name)]
    return sorted(found)


def _is_photograph(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _from_path(path: Path, max_pixels: int) -> Photograph:
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name a photograph in it, or use photographs.find for all of them")
    return _from_file(str(path), lambda: path.open("rb"), max_pixels)


def _from_file(name: str, reopen: Callable[[], IO[bytes]], max_pixels: int) -> Photograph:
    with _open(name, reopen) as file:
        image = _header(name, file)
        size, orientation = _shape(image)
    _check_size(name, size, max_pixels)

    def decode(at_least: Size | None) -> Pixels:
        with _open(name, reopen) as file:
            return _decode(name, _header(name, file), orientation, at_least)

    return Photograph(name, size, decode)


def _from_pillow(image: Pillow.Image, max_pixels: int) -> Photograph:
    name = str(getattr(image, "filename", "") or "the image")
    size, orientation = _shape(image)
    _check_size(name, size, max_pixels)
    return Photograph(name, size, lambda _: _decode(name, image, orientation, None))


def _from_array(array: npt.NDArray[Any], max_pixels: int) -> Photograph:
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"the array is {array.dtype}, not uint8 or uint16; scale it: (255 * array).round().astype('uint8'), say"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ImageError(f"the array is {list(array.shape)}, not [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]{hint}")
    height, width = array.shape[:2]
    _check_size("the array", (height, width), max_pixels)
    return Photograph("the array", (height, width), lambda _: _array_pixels(array))


def _array_pixels(array: npt.NDArray[Any]) -> Pixels:
    array = array if array.ndim == 3 else array[..., None]
    array = _eight_bits(array) if array.dtype == np.uint16 else array
    if array.shape[2] == 4:
        return _on_white(Pillow.fromarray(np.ascontiguousarray(array), "RGBA"))
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    # torch warns about memory that it may not write, and cannot read reversed axes
    return np.require(array, requirements=["C", "W"])


def _open(name: str, reopen: Callable[[], IO[bytes]]) -> IO[bytes]:
    try:
        return reopen()
    except FileNotFoundError as error:
        raise ImageError(f"there is no {name}; check the spelling") from error
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror or error}; allow reading it, or copy it") from error


def _header(name: str, file: IO[bytes]) -> Pillow.Image:
    """The picture with nothing but its header read."""
    try:
        start = file.read(16)
        file.seek(0)
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror or error}; copy it to a local disk") from error
    if not start:
        raise ImageError(f"{name} is empty (0 bytes); copy it again from where it came")
    kind = "WEBP" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else ""
    kind = next((kind for sign, kind in _SIGNATURES.items() if start.startswith(sign)), kind)
    if not kind:
        raise ImageError(
            f"{name} is not a photograph in {', '.join(_READERS)}, whatever it is called; convert it to PNG"
        )
    try:
        image: Pillow.Image = _READERS[kind](file)
        return image
    except Pillow.DecompressionBombError as error:
        raise ImageError(
            f"{name} is refused by Pillow ({error}); raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except _DAMAGE as error:
        raise ImageError(f"the {kind} header of {name} is damaged ({_reason(error)}); copy or save it again") from error


def _shape(image: Pillow.Image) -> tuple[Size, int]:
    """((height, width) upright, EXIF orientation that is still to be applied)."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return (height, width), 1  # Pillow turns TIFFs itself, their size included
    try:
        # the base class's: PNG's own decodes the whole picture to find an EXIF block at its end
        orientation = Pillow.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF takes nothing from the pixels
        orientation = 1
    return ((width, height) if orientation in (5, 6, 7, 8) else (height, width)), orientation


def _check_size(name: str, size: Size, max_pixels: int) -> None:
    height, width = size
    if height < 1 or width < 1:
        raise ImageError(f"{name} has no pixels ({width} x {height}); give one with at least 1 x 1")
    if height * width > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} = {height * width:,} pixels, more than the limit of {max_pixels:,}; "
            f"raise max_pixels if you trust it"
        )


def _decode(name: str, image: Pillow.Image, orientation: int, at_least: Size | None) -> Pixels:
    try:
        if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            height, width = at_least[::-1] if orientation in (5, 6, 7, 8) else at_least
            image.draft(None, (width, height))
        return _upright_rgb(image, orientation)
    except ImageError as error:
        raise ImageError(f"{name} cannot be used: {error}") from error
    except Pillow.DecompressionBombError as error:
        raise ImageError(
            f"{name} is refused by Pillow ({error}); raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except _DAMAGE as error:
        raise ImageError(f"{name} cannot be decoded ({_reason(error)}); copy it again, or save it as PNG") from error
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory ({image.width} x {image.height}); scale it down") from error


def _upright_rgb(image: Pillow.Image, orientation: int) -> Pixels:
    image.load()
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if image.mode == "F":
        raise ImageError("floating-point pictures have no fixed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits of grey, "I;16" and its byte orders; "I" in some TIFFs
        return np.repeat(_eight_bits(np.asarray(image))[..., None], 3, axis=2)
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _on_white(image: Pillow.Image) -> Pixels:
    white = Pillow.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.array(white.convert("RGB"))


def _eight_bits(array: npt.NDArray[Any]) -> Pixels:
    """0-65535 to 0-255, rounded: the whole range is kept, nothing clipped."""
    if array.dtype.itemsize > 2 and (array.min() < 0 or array.max() > 65_535):
        raise ImageError("its values do not fit into 16 bits; save it with 8 or 16 bits")
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
