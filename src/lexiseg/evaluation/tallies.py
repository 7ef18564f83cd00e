"""Holds counts, and adds them over images, shards and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import DataError
from lexiseg.evaluation.contents import Mark
from lexiseg.metrics.boundary import boundary_tallies
from lexiseg.metrics.confusion import Confusion, rows, unlabelled

__all__ = ["Tallies", "relabelled"]

Labels = NDArray[Any]
Rows = dict[str, NDArray[np.int64]]  # image -> [k, 4], see `Confusion.images`


@dataclass(eq=False)
class Tallies:
    """confusion: all classes competing at every pixel.

    own: where each image was asked about its own classes alone; images with fewer than two are left out.
    boundary: of the bands along the contours, for each image; None where they are not wanted.
    skipped: images that could not be read, and why.
    marks: what the files of each image held.
    """

    confusion: Confusion
    own: Confusion | None = None
    boundary: Rows | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)

    @classmethod
    def empty(cls, classes: int, *, own: bool = False, boundary: bool = False) -> Tallies:
        return cls(Confusion.empty(classes), Confusion.empty(classes) if own else None, {} if boundary else None)

    @property
    def done(self) -> set[str]:
        """The images that need not be looked at again."""
        return {*self.confusion.images, *self.skipped}

    def update(self, image: str, labels: Labels, truth: Labels, own: Labels | None = None) -> None:
        """Adds one image; `own` is its label map from its own classes, if it was asked about them.

        Raises `DataError` for label maps that do not fit.
        """
        self.confusion.update(labels, truth, image=image)
        if self.own is not None and own is not None:
            self.own.update(own, truth, image=image)
        if self.boundary is not None:
            self.boundary[image] = rows(boundary_tallies(labels, truth, self.confusion.classes))

    def skip(self, image: str, reason: str) -> None:
        self.skipped[image] = reason

    def __add__(self, other: Tallies) -> Tallies:
        """Of both shards; raises `DataError` where they share an image or were counted in different ways."""
        if (self.own is None, self.boundary is None) != (other.own is None, other.boundary is None):
            raise DataError("tallies with and without own words or boundaries cannot be added; count all in one way")
        both = Tallies(
            self.confusion + other.confusion, skipped=self.skipped | other.skipped, marks=self.marks | other.marks
        )
        if self.own is not None and other.own is not None:
            both.own = self.own + other.own
        if self.boundary is not None and other.boundary is not None:
            both.boundary = self.boundary | other.boundary
        return both

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, equal for equal content."""
        boundary = self.boundary
        return {
            "confusion": self.confusion.to_json(),
            "own": None if self.own is None else self.own.to_json(),
            "boundary": None if boundary is None else {name: boundary[name].tolist() for name in sorted(boundary)},
            "skipped": dict(sorted(self.skipped.items())),
            "marks": {name: list(self.marks[name]) for name in sorted(self.marks)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tallies:
        """Reads `to_json` back; raises `DataError` for anything else."""
        try:
            boundary = data["boundary"]
            if boundary is not None:
                boundary = {name: np.array(table, dtype=np.int64).reshape(-1, 4) for name, table in boundary.items()}
            own = None if data["own"] is None else Confusion.from_json(data["own"])
            marks = {name: Mark(*entry) for name, entry in data["marks"].items()}
            return cls(Confusion.from_json(data["confusion"]), own, boundary, dict(data["skipped"]), marks)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"these are not saved tallies ({error!r}); evaluate again") from error


def relabelled(labels: Labels, index_of: Sequence[int], classes: int) -> Labels:
    """A label map over k classes as one over `classes`.

    labels: uint8 or uint16, where 255 or 65535 is "none of these".
    index_of: the new class of each [k + 1], the last one for "none of these"; `classes` itself counts for no class.
    """
    k = len(index_of) - 1
    table = np.full(np.iinfo(labels.dtype).max + 1, classes)
    table[:k] = index_of[:k]
    table[unlabelled(k)] = index_of[k]
    table[table == classes] = unlabelled(classes)
    return np.asarray(table.astype(np.min_scalar_type(unlabelled(classes)))[labels])
