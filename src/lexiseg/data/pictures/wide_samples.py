"""Reads 16- and 32-bit samples that Pillow would cut to 8.

Pillow keeps 8 bits where there are colours.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import PngImagePlugin, TiffImagePlugin

__all__ = ["samples", "stated_white"]

Samples = npt.NDArray[Any]
Upright = Callable[[Pillow.Image], Pillow.Image]

# Unpacked as if the bytes of each sample were the other way round, a picture has the low bytes where it had the high
_ORDERS = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16")
_GREY_AND_ALPHA = "LA;16B"
_MAX_SAMPLE, _BITS, _PLANAR, _FORMAT = 281, 258, 284, 339  # tags of TIFF
_UNSIGNED = 1
_PNG_HEADER = 8  # bytes before the first chunk


def samples(image: Pillow.Image, again: Callable[[], Pillow.Image] | None, upright: Upright) -> Samples | None:
    """The samples [H, W, bands] of a picture that has more than 8 bits; None for any other. Alpha is the last band.

    image: not decoded yet, unless it is the only one there is.
    again: opens the same picture once more; None where that cannot be done, and colours have 8 bits.
    upright: decodes a picture and turns it.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(upright(image))
        return (_unsigned(grey, image) if image.mode == "I" else grey)[..., None]
    raw = _raw_mode(image)
    if again is None or raw is None:
        return None
    if raw == _GREY_AND_ALPHA:  # two samples of two bytes, unpacked as four of one
        four = np.asarray(upright(_unpacked(image, "RGBA"))).astype(np.uint16)
        return _together(four[..., ::2], four[..., 1::2])
    if raw[:-1] not in _COLOURS or _apart(image):
        return None
    low = _unpacked(again(), raw[:-1] + _ORDERS[raw[-1]])
    return _together(np.asarray(upright(image)).astype(np.uint16), np.asarray(upright(low)))


def stated_white(image: Pillow.Image, reopen: Callable[[], IO[bytes]] | None) -> int | None:
    """The value of white that the file names, if it does."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if white := _largest(image.tag_v2.get(_MAX_SAMPLE)):
            return white
        bits = _largest(image.tag_v2.get(_BITS)) or 0
        return 2**bits - 1 if 8 < bits < 16 else None
    if isinstance(image, PngImagePlugin.PngImageFile) and reopen is not None:
        with reopen() as file:
            bits = _significant_bits(file)
        # a writer that keeps to the specification has scaled the samples to 16 bits, and some then exceed this white
        return 2**bits - 1 if 8 <= bits < 16 else None
    return None


def _together(high: Samples, low: Samples) -> Samples:
    joined: Samples = high << 8 | low
    return joined


def _unsigned(grey: Samples, image: Pillow.Image) -> Samples:
    """Pillow reads 32-bit samples without a sign as if they had one."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or _largest(image.tag_v2.get(_BITS)) != 32:
        return grey
    return grey.view(np.uint32) if _largest(image.tag_v2.get(_FORMAT, _UNSIGNED)) == _UNSIGNED else grey


def _apart(image: Pillow.Image) -> bool:
    """Whether a TIFF stores each band on its own, of which Pillow unpacks the high bytes alone."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PLANAR) == 2


def _raw_mode(image: Pillow.Image) -> str | None:
    """How the file stores its pixels, in Pillow's words; None for a picture that is decoded already."""
    tiles = getattr(image, "tile", ())
    if not tiles:
        return None
    args = tiles[0].args
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else None


def _unpacked(image: Pillow.Image, raw: str) -> Pillow.Image:
    """The picture, which from now on is decoded as if it were stored otherwise."""
    picture: Any = image
    picture.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in picture.tile
    ]
    return image


def _largest(value: Any) -> int | None:
    values = value if isinstance(value, tuple) else (value,)
    return max((int(one) for one in values if one is not None), default=None)


def _significant_bits(file: IO[bytes]) -> int:
    """The largest number in a PNG's chunk sBIT; 0 where it has none before its pixels."""
    file.seek(_PNG_HEADER)
    while len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        if name == b"sBIT":
            return max(file.read(min(length, 4)), default=0)
        if name == b"IDAT":
            break
        file.seek(length + 4, 1)
    return 0
