"""Chooses the bands of a TIFF that are its colours.

They are seen as grey or RGB; none is taken for transparency unless the file says so.

Pillow takes the fourth band of a file without the tag ExtraSamples for alpha, which in a satellite picture is often
infrared, and refuses grey pictures of several bands. TIFF 6.0, section 18 (Associated Alpha Handling), has the tag.
"""

from __future__ import annotations

from typing import Any

from PIL import TiffImagePlugin

from lexiseg.errors import ImageError

__all__ = ["TiffFile"]

BITS, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, FORMAT = 258, 262, 277, 284, 338, 339  # tags
OFFSETS = (273, 324)  # tags: where the strips or tiles of pixels begin
GREY, RGB = (0, 1), 2  # values of PHOTOMETRIC; 0 is grey with white as zero
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # bands of each kind of picture
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2  # values of EXTRA; the last two are kinds of alpha
APART = 2  # value of PLANAR: each band on its own
JPEG = "tiff_jpeg"


class TiffFile(TiffImagePlugin.TiffImageFile):
    """bands: a sentence about the bands that are used, where some are not; else empty.

    Raises `ImageError`, without the file's name, for bands that cannot be read.
    """

    bands = ""

    def _setup(self) -> None:
        tags = self.tag_v2
        if tags.get(259) not in (6, 7):  # JPEG inside, whose bands Pillow knows better
            self.bands = _choose(tags)
        try:
            super()._setup()
        except SyntaxError as error:
            raise ImageError(f"has {_described(tags)}, which cannot be read; {_advice(tags)}") from error
        if tags.get(PLANAR) == APART and max(_bits(tags)) > 8 and len(_bits(tags)) > 1 and not self.use_load_libtiff:
            raise ImageError(f"keeps its {_described(tags)} apart, which cannot be read; {_advice(tags)}")


def _choose(tags: Any) -> str:
    """Declares every band beyond grey or RGB that is not alpha as one to pass over; says which are used."""
    count, kind = tags.get(SAMPLES, 1), tags.get(PHOTOMETRIC, 0)
    extra = tuple(tags.get(EXTRA, ()))
    if kind in GREY and count >= 3:
        tags[PHOTOMETRIC] = kind = RGB
        extra = extra[-(count - 3) :] if count > 3 else ()
    colours = COLOURS.get(kind, count)
    if count <= colours:
        tags.pop(EXTRA, None)
        return ""
    extra = (extra + (UNSPECIFIED,) * count)[: count - colours]
    alpha = extra[0] in (ASSOCIATED, UNASSOCIATED, 999)  # 999 is Corel Draw's
    if not alpha:  # Pillow reads alpha in the first extra band or not at all
        extra = (UNSPECIFIED,) * len(extra)
    tags[EXTRA] = extra
    if tags.get(PLANAR) == APART and not alpha:
        for code in OFFSETS:  # of the bands that are used, which come first
            if code in tags:
                tags[code] = tags[code][: len(tags[code]) // count * colours]
    unused = len(extra) - alpha
    if not unused:
        return ""
    seen = "bands 1, 2 and 3 are seen as red, green and blue" if colours == 3 else "band 1 is seen as grey"
    return f"it has {count} bands; {seen}, the others are not used"


def _bits(tags: Any) -> tuple[int, ...]:
    bits: tuple[int, ...] = tuple(tags.get(BITS, (1,)))
    return bits


def _described(tags: Any) -> str:
    bits = max(_bits(tags))
    kind = {3: " floating-point"}.get(max(tags.get(FORMAT, (1,))), "")
    count = tags.get(SAMPLES, 1)
    return f"{count}{kind} {'band' if count == 1 else 'bands'} of {bits} bits"


def _advice(tags: Any) -> str:
    return "save three of its bands as RGB, for example: gdal_translate -b 3 -b 2 -b 1 -co INTERLEAVE=PIXEL IN OUT"
