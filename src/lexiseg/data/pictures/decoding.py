"""Turns a picture of any kind into RGB.

It says which pixels are there and what had to be decided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import TiffImagePlugin

from lexiseg.data.pictures import wide_samples
from lexiseg.data.pictures.levels import eight_bits
from lexiseg.data.pictures.tiff_bands import TiffFile

__all__ = ["SIDEWAYS", "Content", "Pixels", "decode", "of_samples"]

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[Any]
Valid = npt.NDArray[np.bool_]

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
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width

FIRST_FRAME = "it has several frames or pages; the first is used"
ALL_TRANSPARENT = "every pixel is fully transparent, so none is labelled"
TRANSPARENT = "its fully transparent pixels stay unlabelled"
PARTLY = "its partly transparent pixels are seen on white"
NO_NUMBER = "its pixels without a number (NaN or infinite) stay unlabelled"
_PHOTOMETRIC, _SUBFILE = 262, 254  # tags of TIFF
_WHITE_IS_ZERO = 0


@dataclass(frozen=True, eq=False)
class Content:
    """What a photograph shows.

    rgb: uint8 [H, W, 3]; on white where the picture is transparent.
    valid: which pixels are there [H, W]; None where all are. The others are fully transparent or not a number.
    notes: a sentence each on what had to be decided, without the photograph's name.
    """

    rgb: Pixels
    valid: Valid | None = None
    notes: tuple[str, ...] = ()


def decode(
    image: Pillow.Image,
    orientation: int,
    *,
    again: Callable[[], Pillow.Image] | None = None,
    reopen: Callable[[], IO[bytes]] | None = None,
) -> Content:
    """The first frame, turned as its EXIF orientation says.

    again: opens the same picture once more, as a file that is decoded on its own; None where that cannot be done.
    reopen: opens its file.
    """

    def upright(picture: Pillow.Image) -> Pillow.Image:
        picture.load()
        return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture

    notes = _frames(image, again) + ([image.bands] if isinstance(image, TiffFile) and image.bands else [])
    samples = wide_samples.samples(image, again, upright)
    if samples is None:
        content = _usual(upright(image))
    else:
        key = image.info.get("transparency")
        content = of_samples(samples, stated=wide_samples.stated_white(image, reopen), transparent=key)
        if _is_negative(image):
            content = Content(255 - content.rgb, content.valid, content.notes)
    return Content(content.rgb, content.valid, (*notes, *content.notes))


def of_samples(samples: Samples, *, stated: int | None = None, transparent: Any = None) -> Content:
    """Samples [H, W, 1 | 2 | 3 | 4] of any whole or floating-point type: grey or RGB, with alpha as band 2 or 4.

    stated: the value of white that the file names, see `levels`.
    transparent: the sample, or the three, of pixels that are fully transparent.
    """
    has_alpha = samples.shape[2] in (2, 4)
    colours, alpha = (samples[..., :-1], samples[..., -1]) if has_alpha else (samples, None)
    rgb, note = (colours, "") if samples.dtype == np.uint8 else eight_bits(colours, stated=stated)
    rgb = np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb
    valid, notes = _valid(colours, alpha, transparent)
    cover = None if alpha is None else alpha if alpha.dtype == np.uint8 else eight_bits(alpha, stretch=False)[0]
    if cover is not None and ((cover > 0) & (cover < 255)).any():
        notes.append(PARTLY)
    if cover is not None or valid is not None:
        seen = np.full(rgb.shape[:2], 255, np.uint8) if cover is None else cover
        rgb = _on_white(rgb, seen if valid is None else np.where(valid, seen, 0).astype(np.uint8))
    # torch warns about memory that it may not write, and cannot read reversed axes
    return Content(np.require(rgb, requirements=["C", "W"]), valid, ((note,) if note else ()) + tuple(notes))


def _valid(colours: Samples, alpha: Samples | None, transparent: Any) -> tuple[Valid | None, list[str]]:
    """Which pixels are there [H, W], None where all are; and notes on the others."""
    clear = [] if alpha is None else [alpha <= 0]
    clear += [] if transparent is None else [(colours == np.asarray(transparent)).all(axis=2)]
    gone = np.logical_or.reduce(clear) if clear else np.zeros((), bool)
    notes = [ALL_TRANSPARENT if gone.all() else TRANSPARENT] if gone.any() else []
    if colours.dtype.kind == "f" and not np.isfinite(colours).all():
        gone = gone | ~np.isfinite(colours).all(axis=2)
        notes.append(NO_NUMBER)
    return (~gone if gone.any() else None), notes


def _usual(image: Pillow.Image) -> Content:
    """A picture of 8 bits or fewer."""
    if not image.has_transparency_data:
        return Content(np.array(image.convert("RGB")))
    image = image.convert("LA") if image.mode == "La" else image
    return of_samples(np.array(image.convert("RGBA")))


def _on_white(rgb: Pixels, alpha: Pixels) -> Pixels:
    picture = Pillow.fromarray(np.ascontiguousarray(np.dstack([rgb, alpha])))
    white = Pillow.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.array(white.convert("RGB"))


def _frames(image: Pillow.Image, again: Callable[[], Pillow.Image] | None) -> list[str]:
    """Whether there are more pictures than the one that is used; previews and smaller copies do not count."""
    if image.format == "MPO" or not _is_animated(image, again):  # MPO: a phone's JPEG with its depth map, say
        return []
    if isinstance(image, TiffImagePlugin.TiffImageFile) and again is not None and _is_copy(again()):
        return []
    return [FIRST_FRAME]


def _is_animated(image: Pillow.Image, again: Callable[[], Pillow.Image] | None) -> bool:
    # a GIF looks for its second frame, which may be damaged, and the first one must not suffer
    probe = again() if again is not None and image.format == "GIF" else image
    try:
        return bool(getattr(probe, "is_animated", False))
    except Exception:
        return True


def _is_copy(image: Pillow.Image) -> bool:
    """Whether a TIFF's second page is a smaller copy, or a mask, of the first (TIFF 6.0, NewSubfileType)."""
    try:
        image.seek(1)
    except Exception:  # a page that cannot be read is a page all the same
        return False
    pages: Any = image
    return bool(pages.tag_v2.get(_SUBFILE, 0))


def _is_negative(image: Pillow.Image) -> bool:
    """Whether Pillow has left white at zero, as it does above 8 bits."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    return image.mode in ("I", "I;16", "I;16B", "F") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
