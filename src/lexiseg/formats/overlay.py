"""Puts an overlay together: label map, words and legend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from lexiseg.errors import ImageError
from lexiseg.formats.legend import Row, with_legend
from lexiseg.formats.lettering import writable
from lexiseg.formats.painting import Labels, paint
from lexiseg.formats.region_words import write

__all__ = ["Photograph", "draw", "read"]

Photograph = Image.Image | npt.NDArray[np.uint8] | str | os.PathLike[str]
UNLABELLED = "unlabelled"


def draw(
    photograph: Image.Image | None,
    labels: Labels,
    classes: Mapping[int, Row],
    *,
    unlabelled: float,
    alpha: float,
    legend: bool = True,
    words: bool = True,
) -> Image.Image:
    """The label map [H, W] over the photograph, or in plain colours without one.

    classes: a row, with a colour, for each label that occurs, in the order of the legend.
    unlabelled: the fraction of the picture whose labels have no row, 0-1.
    alpha: how much of its colour a region has, the rest being the photograph, 0-1.
    legend: beside or under the picture.
    words: on the regions that have room for them.
    """
    rows = {label: replace(row, name=writable(row.name, f"class {label}")) for label, row in classes.items()}
    picture = paint(photograph, labels, {label: row.colour for label, row in rows.items()}, alpha=alpha)
    if words:
        none = int(np.iinfo(labels.dtype).max)
        write(picture, labels, {label: row.name for label, row in rows.items()} | {none: UNLABELLED})
    return with_legend(picture, [*rows.values()], unlabelled=unlabelled) if legend else picture


def read(photograph: Photograph, *, size: tuple[int, int]) -> Image.Image:
    """The photograph as upright RGB; `size` is the (height, width) it must have.

    Raises `ImageError` where it cannot be read or is not the picture that was segmented.
    """
    if isinstance(photograph, (str, os.PathLike)):
        photograph = _open(Path(photograph))
    elif isinstance(photograph, np.ndarray):
        if photograph.dtype != np.uint8 or photograph.shape[2:] not in [(), (3,)]:
            raise ImageError(f"the photograph is {photograph.dtype} {list(photograph.shape)}; give uint8 [H, W, 3]")
        photograph = Image.fromarray(photograph)
    if (photograph.height, photograph.width) != size:
        raise ImageError(
            f"the photograph is {photograph.height}x{photograph.width} but its label map {size[0]}x{size[1]} "
            "(height x width); give the photograph that was segmented"
        )
    return photograph.convert("RGB")


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read as a photograph: {error}; give a JPEG, PNG or WebP file") from error
