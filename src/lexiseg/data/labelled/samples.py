"""Reads one photograph with its label map when asked to.

This is what every benchmark and data set hands out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.data.labelled.labels import MAX_PIXELS, Ids, Label
from lexiseg.data.photographs import Content, Photograph
from lexiseg.data.storage.stored import File, read
from lexiseg.errors import DataError, ImageError

__all__ = ["IdTable", "Sample", "ignore_value"]

Truth = npt.NDArray[Any]  # uint8, or uint16 where there are more than 255 classes

UNKNOWN = -1


def ignore_value(classes: int) -> int:
    """What an unscored pixel holds: 255 while it is not itself the index of a class, else 65535."""
    return 255 if classes <= 255 else 65535


@dataclass(frozen=True, eq=False)
class IdTable:
    """Raw ids of a release -> class indices.

    classes: raw id -> index of the class, or `ignore` [largest id + 1]; -1 for ids that the release does not have.
    """

    classes: npt.NDArray[np.int32]
    ignore: int

    @classmethod
    def of(cls, index_of: Mapping[int, int], *, others: Collection[int], rest: int, ignore: int) -> IdTable:
        """`index_of` gives the class of a raw id, or `ignore`; the ids in `others` all become `rest`."""
        classes = np.full(max([*index_of, *others], default=0) + 1, UNKNOWN, np.int32)
        classes[list(others)] = rest
        classes[list(index_of)] = list(index_of.values())
        return cls(classes, ignore)

    @property
    def scored(self) -> list[tuple[int, int]]:
        """The raw ids that are scored, and their classes."""
        places = np.flatnonzero((self.classes != UNKNOWN) & (self.classes != self.ignore))
        return list(zip(places.tolist(), self.classes[places].tolist(), strict=True))

    def has(self, number: int) -> bool:
        """Whether a raw id is one of the release's."""
        return 0 <= number < len(self.classes) and bool(self.classes[number] != UNKNOWN)

    def index(self, number: int) -> int | None:
        """The class of a raw id that the release has; None where its pixels are not scored."""
        index = int(self.classes[number])
        return None if index == self.ignore else index

    def __call__(self, ids: Ids, label: Label) -> Truth:
        """Class indices [H, W]; raises `DataError`, naming the file of `label`, for an id that does not exist."""
        if ids.ndim != 2:
            raise DataError(f"{label.file} holds an array of shape {ids.shape}; a label map has height and width")
        if ids.size and int(ids.max()) >= len(self.classes):
            raise self._strange(ids, label, ids >= len(self.classes))
        truth = self.classes[ids]
        if truth.size and int(truth.min()) == UNKNOWN:
            raise self._strange(ids, label, truth == UNKNOWN)
        return truth.astype(np.uint8 if self.ignore == 255 else np.uint16)

    def _strange(self, ids: Ids, label: Label, where: npt.NDArray[np.bool_]) -> DataError:
        found = ", ".join(map(str, np.unique(ids[where])[:5]))
        known = [number for number, _ in self.scored] or np.flatnonzero(self.classes != UNKNOWN).tolist()
        return DataError(
            f"{label.file} holds id {found}, which its class list lacks (it scores {len(known)} ids from "
            f"{known[0]} to {known[-1]}); take both from one release, `lexiseg data check` looks at all files"
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """A photograph and its label map.

    key: a name a person can find it by, unique in its split.
    upright: turn the photograph as its EXIF says. Official releases label the pixels as they are stored; tools that
        people label their own photographs with show them upright.
    """

    key: str
    photo: File
    label: Label
    table: IdTable
    upright: bool = False

    def image(self) -> npt.NDArray[np.uint8]:
        """RGB [H, W, 3]; raises `DataError` for a file that is missing or broken."""
        return self.content().rgb

    def content(self) -> Content:
        """The photograph as `Photograph.content` gives it; raises as `image` does."""
        data, name = read(self.photo), str(self.photo)
        try:
            return Photograph.open(data, name=name, max_pixels=MAX_PIXELS, upright=self.upright).content()
        except ImageError as error:
            raise DataError(str(error)) from error

    def truth(self) -> Truth:
        """Class indices [H, W], 255 or 65535 (`table.ignore`) where nothing is scored; raises as `image` does."""
        return self.table(self.label.ids(), self.label)

    def read(self) -> tuple[npt.NDArray[np.uint8], Truth]:
        """Both; pixels that are fully transparent in the photograph are not scored.

        Raises `DataError` too where their sizes differ.
        """
        content, truth = self.content(), self.truth()
        image = content.rgb
        if image.shape[:2] != truth.shape:
            raise DataError(
                f"{self.photo} is {image.shape[1]}x{image.shape[0]} pixels and its label map {self.label.file} is "
                f"{truth.shape[1]}x{truth.shape[0]}; they must be of one size, take both from the same release"
            )
        if content.valid is not None:
            truth[~content.valid] = self.table.ignore
        return image, truth
