"""Reads any file, array or picture as RGB pixels.

Every way it can be broken is an `ImageError`.

A `Photograph` is opened first and decoded later. Its size comes from the header, so that a decompression bomb is
refused before a byte of it is unpacked, and a JPEG that will be shown to the network at a fraction of its size is
decoded at a fraction of the work.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import JpegImagePlugin, TiffImagePlugin

from lexiseg import files
from lexiseg.data.pictures.decoding import SIDEWAYS, Content, Pixels, decode, of_samples
from lexiseg.data.pictures.headers import DAMAGE, SUFFIXES, bomb, header, reason
from lexiseg.data.pictures.levels import is_readable
from lexiseg.errors import ImageError, SettingError

__all__ = ["MAX_PIXELS", "SUFFIXES", "Content", "ImageSource", "Photograph", "read"]

MAX_PIXELS = 100_000_000

Size = tuple[int, int]

_ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph that is open but not decoded.

    name: what messages call it.
    size: (height, width) in pixels, the way a person sees it: EXIF orientation applied.
    """

    name: str
    size: Size
    _decode: Callable[[Size | None], Content]

    @classmethod
    def open(
        cls, source: ImageSource, *, max_pixels: int = MAX_PIXELS, name: str | None = None, upright: bool = True
    ) -> Photograph:
        """Reads the header only.

        source: a path, bytes, a binary file, a Pillow image, or an array [H, W], [H, W, 1 | 3 | 4] of whole numbers or
            fractions; four bands are RGB and alpha.
        max_pixels: photographs with more are refused before they are decoded.
        name: what messages call a source that has no name of its own.
        upright: turn the picture as its EXIF orientation says. (A TIFF is always turned.)

        Samples of more than 8 bits are brought to 8 by the rule of `lexiseg.data.pictures.levels`: white is what the
        file states, else the end of the smallest usual range (8, 10, 12, 14, 16 ... bits) that holds every sample.
        Where they fill little of it, or some are negative, the lowest becomes black and the highest white. Whatever is
        not plain 0-65,535 or 0.0-1.0 gets a note.

        Raises `ImageError` for anything that is not a photograph, `SettingError` for a limit below 1.
        """
        if isinstance(source, Photograph):
            return source
        if not max_pixels >= 1:  # NaN too
            raise SettingError(f"max_pixels must be 1 or more, got {max_pixels}")
        limit = _Limit(max_pixels, upright)
        if isinstance(source, np.ndarray):
            return _from_array(name or "the array", source, limit)
        if isinstance(source, Pillow.Image):
            return _from_pillow(source, name, limit)
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            return _from_file(name or "the image", lambda: io.BytesIO(data), limit)
        if isinstance(source, (str, os.PathLike)):
            return _from_path(files.local(source, ImageError), limit)
        if hasattr(source, "read"):
            name = name or str(getattr(source, "name", "the image"))
            try:
                data = source.read()
                text = not isinstance(data, bytes)
            except UnicodeDecodeError:
                text = True
            if text:
                raise ImageError(f"{name} was opened as text; open it with mode 'rb'")
            return _from_file(name, lambda: io.BytesIO(data), limit)
        raise ImageError(
            f"an image cannot be a {type(source).__name__}; give a path, bytes, a Pillow image or an array [H, W, 3]"
        )

    def content(self, at_least: Size | None = None) -> Content:
        """RGB [H, W, 3], the pixels that are there, and notes on what was decided.

        Of several frames or pages the first is used. Transparent pixels lie on white; fully transparent ones are not
        there. Wider samples are brought to 8 bits as `open` says.

        at_least: (height, width); where a JPEG is much larger it may come back at 1/2, 1/4 or 1/8 of its size.

        Raises `ImageError` for a file that is damaged behind its header.
        """
        return self._decode(at_least)

    def pixels(self, at_least: Size | None = None) -> Pixels:
        """The RGB [H, W, 3] of `content`."""
        return self.content(at_least).rgb


ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Pillow.Image | npt.NDArray[Any] | Photograph


def read(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A photograph at its full size as RGB [H, W, 3]; raises `ImageError`."""
    return Photograph.open(source, max_pixels=max_pixels).pixels()


@dataclass(frozen=True)
class _Limit:
    """How a source may be read: see `Photograph.open`."""

    max_pixels: int
    upright: bool

    def check(self, name: str, size: Size) -> None:
        height, width = size
        if height < 1 or width < 1:
            raise ImageError(f"{name} has no pixels ({width} x {height}); give one with at least 1 x 1")
        if height * width > self.max_pixels:
            raise ImageError(
                f"{name} has {width} x {height} = {height * width:,} pixels, more than the limit of "
                f"{self.max_pixels:,}; scale it down, or raise max_pixels if you trust it"
            )

    def shape(self, image: Pillow.Image) -> tuple[Size, int]:
        """((height, width) after turning, EXIF orientation that is still to be applied)."""
        width, height = image.size
        if not self.upright or isinstance(image, TiffImagePlugin.TiffImageFile):
            return (height, width), 1  # Pillow turns TIFFs itself, their size included
        try:
            # the base class's: PNG's own decodes the whole picture to find an EXIF block at its end
            orientation = Pillow.Image.getexif(image).get(_ORIENTATION, 1)
        except Exception:  # damaged EXIF takes nothing from the pixels
            orientation = 1
        return ((width, height) if orientation in SIDEWAYS else (height, width)), orientation


def _from_path(path: Path, limit: _Limit) -> Photograph:
    if os.path.isdir(path):  # noqa: PTH112 (false for names that are too long)
        raise ImageError(f"{path} is a folder; name a photograph in it")
    return _from_file(str(path), lambda: path.open("rb"), limit)


def _from_file(name: str, reopen: Callable[[], IO[bytes]], limit: _Limit) -> Photograph:
    with _open(name, reopen) as file:
        image = header(name, file)
        size, orientation = limit.shape(image)
    limit.check(name, size)

    def content(at_least: Size | None) -> Content:
        with contextlib.ExitStack() as stack:

            def again() -> Pillow.Image:
                return header(name, stack.enter_context(_open(name, reopen)))

            with _named(name, size):
                image = again()
                if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
                    height, width = at_least[::-1] if orientation in SIDEWAYS else at_least
                    image.draft(None, (width, height))
                return decode(image, orientation, again=again, reopen=reopen)

    return Photograph(name, size, content)


def _from_pillow(image: Pillow.Image, name: str | None, limit: _Limit) -> Photograph:
    name = name or str(getattr(image, "filename", "") or "the image")
    size, orientation = limit.shape(image)
    limit.check(name, size)

    def content(_: Size | None) -> Content:
        with _named(name, size):
            return decode(image, orientation)

    return Photograph(name, size, content)


def _from_array(name: str, array: npt.NDArray[Any], limit: _Limit) -> Photograph:
    if not is_readable(array.dtype):
        raise ImageError(f"{name} is {array.dtype}, not whole numbers or fractions; give uint8 of 0 to 255, say")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; move the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ImageError(f"{name} is {list(array.shape)}, not [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]{hint}")
    height, width = array.shape[:2]
    limit.check(name, (height, width))
    bands = array if array.ndim == 3 else array[..., None]
    return Photograph(name, (height, width), lambda _: of_samples(bands))


def _open(name: str, reopen: Callable[[], IO[bytes]]) -> IO[bytes]:
    try:
        return reopen()
    except FileNotFoundError as error:
        raise ImageError(f"there is no {name}; check the spelling") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {name}: {why}; allow reading it, or copy it") from error


@contextlib.contextmanager
def _named(name: str, size: Size) -> Iterator[None]:
    """Whatever fails while a picture is decoded, as an `ImageError` that names it."""
    try:
        yield
    except ImageError:
        raise
    except Pillow.DecompressionBombError as error:
        raise bomb(name, error) from error
    except DAMAGE as error:
        raise ImageError(f"{name} cannot be decoded ({reason(error)}); copy it again, or save it as PNG") from error
    except MemoryError as error:
        raise ImageError(f"{name} does not fit into memory ({size[1]} x {size[0]}); scale it down") from error
