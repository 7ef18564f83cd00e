"""Pictures of a training set, where a broken one is a bad sample rather than the end."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lexiseg.data.photographs import SUFFIXES, Photograph
from lexiseg.errors import BadSample, ImageError

__all__ = ["IMAGE_SUFFIXES", "read_rgb"]

IMAGE_SUFFIXES = tuple(sorted(SUFFIXES))


def read_rgb(file: bytes | Path) -> Image.Image:
    """The picture in a file or in its bytes, as RGB; raises `BadSample` for one that is missing, broken or empty."""
    if isinstance(file, Path) and not file.is_file():
        raise BadSample("missing image", str(file))
    try:
        return Image.fromarray(Photograph.open(file).pixels())
    except ImageError as error:
        raise BadSample("broken image", str(error)) from error
