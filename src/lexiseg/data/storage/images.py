"""Opens training pictures, counting a broken one as a bad sample."""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image

from lexiseg.data import finding
from lexiseg.data.photographs import Photograph
from lexiseg.data.pictures.headers import SUFFIXES
from lexiseg.errors import BadSample, DataError, ImageError

__all__ = ["pictures_below", "read_rgb"]

_logger = logging.getLogger(__name__)


def read_rgb(file: bytes | Path) -> Image.Image:
    """The picture in a file or in its bytes, as RGB; raises `BadSample` for one that is missing, broken or empty."""
    if isinstance(file, Path) and not file.is_file():
        raise BadSample("missing image", str(file))
    try:
        return Image.fromarray(Photograph.open(file).pixels())
    except ImageError as error:
        raise BadSample("broken image", str(error)) from error


def pictures_below(folder: Path) -> tuple[Path, ...]:
    """Every picture of a folder and the folders inside, sorted; what is left out is logged by reason.

    Raises `DataError` where there is none, or where a folder cannot be read.
    """
    try:
        found = finding.in_folder(folder)
    except ImageError as error:
        raise DataError(str(error)) from error
    if not found.photographs:
        rest = f"; left out: {finding.by_reason(found.left_out)}" if found.left_out else ""
        raise DataError(f"{folder} holds no pictures; they end in {', '.join(SUFFIXES)}{rest}")
    if found.left_out:
        _logger.warning("left out of %s: %s", folder, finding.by_reason(found.left_out))
    return found.photographs
