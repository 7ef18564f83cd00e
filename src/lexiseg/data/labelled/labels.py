"""Reads label maps as releases store them.

There is one small class for each way; all give raw ids [H, W].

A raw id is the number that the release uses; `samples.IdTable` turns it into the index of a class.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lexiseg.data.pictures.headers import header
from lexiseg.data.storage.stored import File, TarMember, read
from lexiseg.errors import DataError, ImageError
from lexiseg.files import utf8
from lexiseg.formats.png import stored

__all__ = [
    "AdeObjects",
    "Drawn",
    "Ids",
    "Label",
    "MatLabelMap",
    "MatSbd",
    "Panoptic",
    "Png",
    "RedGreen",
    "SlowLabel",
    "open_picture",
    "read_ids",
    "stamp",
]

Ids = npt.NDArray[Any]  # [H, W], some integer type, never negative

MAX_PIXELS = 1_000_000_000  # of a label map
BROKEN = (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


class Label(Protocol):
    """A label map that has not been read yet. `file` is what must be there and what errors name."""

    @property
    def file(self) -> File: ...

    def ids(self) -> Ids:
        """Raw ids [H, W]; raises `DataError` for a file that is missing, broken or of another kind."""
        ...


@dataclass(frozen=True, eq=False)
class SlowLabel(ABC):
    """A label map worth keeping once it is read."""

    file: File

    @abstractmethod
    def ids(self) -> Ids: ...

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes with anything the label map is made of."""
        ...


@dataclass(frozen=True)
class Png:
    """Grey or palette PNG of 1, 2, 4, 8 or 16 bits: the stored value, or the place in the palette, is the id."""

    file: File

    def ids(self) -> Ids:
        return read_ids(read(self.file), str(self.file))


@dataclass(frozen=True)
class RedGreen:
    """ImageNet-S: id = R + 256 G."""

    file: File

    def ids(self) -> Ids:
        rgb = _colours(self.file)
        return rgb[..., 0].astype(np.uint16) + rgb[..., 1].astype(np.uint16) * 256


@dataclass(frozen=True, eq=False)
class AdeObjects(SlowLabel):
    """ADE20K full release, *_seg.png: id = R // 10 * 256 + G, the place in the release's index; B tells instances."""

    def ids(self) -> Ids:
        rgb = _colours(self.file)
        return rgb[..., 0].astype(np.uint16) // 10 * 256 + rgb[..., 1]

    def fingerprint(self) -> str:
        return stamp(self.file, "ade objects")


@dataclass(frozen=True, eq=False)
class Panoptic(SlowLabel):
    """COCO panoptic: segment = R + 256 G + 65536 B, and the JSON tells the category of each segment; 0 is nothing.

    annotations: the JSON's `stamp`, since its categories decide what the picture means.
    """

    categories: dict[int, int]  # segment -> category
    annotations: str

    def ids(self) -> Ids:
        rgb = _colours(self.file).astype(np.uint32)
        segments = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        known = np.array(sorted({0: 0, **self.categories}), np.uint32)
        place = np.searchsorted(known, segments).clip(max=len(known) - 1)
        strange = segments[known[place] != segments]
        if strange.size:
            raise DataError(
                f"{self.file} has segment {strange[0]}, which its JSON does not list; take both from one release"
            )
        categories = np.array([self.categories.get(int(segment), 0) for segment in known], np.uint16)
        ids: Ids = categories[place]
        return ids

    def fingerprint(self) -> str:
        return stamp(self.file, f"panoptic {self.annotations}")


@dataclass(frozen=True)
class MatLabelMap:
    """Pascal Context, 459 classes: the array `LabelMap` of a .mat file."""

    file: File

    def ids(self) -> Ids:
        ids = np.asarray(_matlab(self.file, "LabelMap"))
        if ids.dtype.kind != "u":
            raise DataError(
                f"{self.file} has a LabelMap of {ids.dtype}; ids are whole numbers, unpack the release again"
            )
        return ids


@dataclass(frozen=True)
class MatSbd:
    """Semantic Boundaries Dataset: `GTcls.Segmentation` of a .mat file, Pascal VOC's ids without a void border."""

    file: File

    def ids(self) -> Ids:
        classes = _matlab(self.file, "GTcls")
        try:
            return np.asarray(classes["Segmentation"].item())
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise DataError(f"{self.file} has no GTcls.Segmentation; take the files of SBD's cls folder") from error


@dataclass(frozen=True, eq=False)
class Drawn(SlowLabel):
    """Polygons or RLE of a JSON file, drawn one over the other in their order; 0 is where none is.

    shapes: (id, segmentation) pairs, a segmentation being a list of polygons [x0, y0, x1, y1, ...] in pixels or an RLE.
    annotations: the `stamp` of the JSON; key: the image.
    """

    key: str
    size: tuple[int, int]  # (height, width)
    shapes: Sequence[tuple[int, Any]]
    annotations: str

    def ids(self) -> Ids:
        ids = np.zeros(self.size, np.uint16)
        for number, segmentation in self.shapes:
            ids[self._mask(segmentation)] = number
        return ids

    def fingerprint(self) -> str:
        return hashlib.sha256(utf8(f"drawn {self.annotations} {self.key}")).hexdigest()

    def _mask(self, segmentation: Any) -> npt.NDArray[np.bool_]:
        from pycocotools import mask as coco

        height, width = self.size
        try:
            if isinstance(segmentation, list):
                # fewer than three corners enclose nothing, and pycocotools would take four numbers for a box
                polygons = [corners for corners in segmentation if len(corners) >= 6]
                if not polygons:
                    return np.zeros(self.size, bool)
                rle = coco.merge(coco.frPyObjects(polygons, height, width))
            elif isinstance(segmentation["counts"], list):
                rle = coco.frPyObjects(segmentation, height, width)
            else:
                rle = segmentation
            mask: npt.NDArray[np.bool_] = coco.decode(rle).astype(bool)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{self.file} has a shape of {self.key} that cannot be drawn: {error!r}") from error
        if mask.shape != self.size:
            raise DataError(f"{self.file} has a mask of {mask.shape} for {self.key}, whose size is {self.size}")
        return mask


def read_ids(content: bytes, name: str) -> Ids:
    """The ids in a PNG [H, W], uint8 or uint16: the numbers that are stored, at whatever depth.

    name: what errors call it. Raises `DataError` for a file that is broken or holds anything but grey or palette.
    """
    picture = _open(content, name)
    if not isinstance(picture, PngImageFile):
        raise DataError(f"{name} is a {picture.format} file, whatever it is called; label maps must be saved as PNG")
    if picture.mode not in ("1", "L", "P", "I;16"):
        raise DataError(f"{name} is a {picture.mode} picture, not a label map; it must be a grey or palette PNG of ids")
    try:
        return stored(picture)
    except BROKEN as error:
        raise DataError(f"{name} is broken: {error}; unpack or copy it again") from error


def open_picture(file: File) -> Image.Image:
    """A decoded picture; raises `DataError` where the file is missing, cut off or not a picture."""
    picture = _open(read(file), str(file))
    try:
        picture.load()
    except BROKEN as error:
        raise DataError(f"{file} is broken: {error}; unpack or copy it again") from error
    return picture


def _open(content: bytes, name: str) -> Image.Image:
    try:
        picture = header(name, io.BytesIO(content))
    except ImageError as error:
        raise DataError(str(error)) from error
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(f"{name} has {picture.width} x {picture.height} pixels, over {MAX_PIXELS:,}; scale it down")
    return picture


def stamp(file: File, kind: str) -> str:
    """Hash of what a file is: where it lies, its size and the time it was written."""
    path = file.tar if isinstance(file, TarMember) else file
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; copy it again") from error
    content = f"{kind} {file} {Path(path).resolve()} {facts.st_size} {facts.st_mtime_ns}"
    return hashlib.sha256(utf8(content)).hexdigest()


def _colours(file: File) -> npt.NDArray[np.uint8]:
    picture = open_picture(file)
    if picture.mode not in ("RGB", "RGBA"):
        raise DataError(f"{file} is a {picture.mode} picture; this release stores ids in the colours of an RGB PNG")
    return np.asarray(picture)


def _matlab(file: File, variable: str) -> Any:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    content = read(file)
    try:
        found = loadmat(io.BytesIO(content), variable_names=[variable])
    except (*BROKEN, MatReadError, NotImplementedError, TypeError) as error:
        raise DataError(f"{file} is broken or no MATLAB 5 file: {error}; unpack or copy it again") from error
    if variable not in found:
        raise DataError(f"{file} has no variable {variable}; it is of another release")
    return found[variable]
