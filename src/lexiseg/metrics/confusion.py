"""Counts the confusion matrix over a data set.

Every score of this package is a function of it.

    rows     the class of the ground truth, 0 to C - 1
    columns  the class predicted, 0 to C - 1, and in column C the pixels predicted to be none of the classes

It is summed over the whole data set before anything is divided (maskclip.md §2.10, simseg.md §6.1), so shards and
processes add up to the same integers in any order. Beside it stand the tallies of each image, for the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lexiseg.errors import DataError

__all__ = ["Confusion", "as_classes", "count", "rows", "tally", "unlabelled"]

Integers = NDArray[np.int64]


def unlabelled(classes: int) -> int:
    """What stands in a label map for "none of these": 255 where that leaves room for the classes, else 65535."""
    return 255 if classes <= 255 else 65_535


@dataclass(eq=False)
class Confusion:
    """Pixels by true and predicted class, and what each image added.

    counts: [C, C + 1], ground truth by prediction; see the top of this file.
    images: for each named image the classes it touches [k, 4]: class, true positives, false positives, false negatives
        in pixels. They are what the bootstrap resamples; images without a name are in `counts` alone.
    """

    counts: Integers
    images: dict[str, Integers] = field(default_factory=dict)

    @classmethod
    def empty(cls, classes: int) -> Confusion:
        return cls(np.zeros((classes, classes + 1), dtype=np.int64))

    @property
    def classes(self) -> int:
        return len(self.counts)

    @property
    def tallies(self) -> Integers:
        """True positives, false positives and false negatives of each class [3, C], over all images."""
        return tally(self.counts)

    def update(self, labels: ArrayLike, truth: ArrayLike, *, image: str | None = None) -> None:
        """Adds one label map and its ground truth [H, W]; `image` names it, for the bootstrap and for resuming.

        Raises `DataError` as `count` does, and for an image that is in already.
        """
        if image is not None and image in self.images:
            raise DataError(f"image {image!r} is counted twice; give every image once, under its own name")
        counts = count(labels, truth, self.classes)
        self.counts += counts
        if image is not None:
            self.images[image] = rows(tally(counts))

    def __add__(self, other: Confusion) -> Confusion:
        """The matrix of both shards; raises `DataError` where they share an image or differ in their classes."""
        if self.classes != other.classes:
            raise DataError(
                f"confusion matrices of {self.classes} and {other.classes} classes cannot be added; "
                "use one vocabulary for all shards"
            )
        if both := self.images.keys() & other.images.keys():
            raise DataError(f"image {min(both)!r} is in both shards; give every image to one process only")
        return Confusion(self.counts + other.counts, self.images | other.images)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, equal for equal content: the cells that are not zero, and the images by name."""
        truth, predicted = np.nonzero(self.counts)
        return {
            "classes": self.classes,
            "truth": truth.tolist(),
            "predicted": predicted.tolist(),
            "pixels": self.counts[truth, predicted].tolist(),
            "images": {name: self.images[name].tolist() for name in sorted(self.images)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Confusion:
        """Reads `to_json` back; raises `DataError` for anything else."""
        try:
            confusion = cls.empty(data["classes"])
            confusion.counts[data["truth"], data["predicted"]] = data["pixels"]
            for name, entries in data["images"].items():
                confusion.images[name] = np.array(entries, dtype=np.int64).reshape(-1, 4)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is not a saved confusion matrix ({error!r}); evaluate again") from error
        return confusion


def count(labels: ArrayLike, truth: ArrayLike, classes: int) -> Integers:
    """The confusion matrix [C, C + 1] of one label map against its ground truth, both [H, W].

    In the ground truth 255 and 65535 are ignored; in the prediction they mean "none of these", which is wrong whatever
    the true class is. (Above 255 classes 255 is a class, save in a uint8 array.) A benchmark that has a background
    class maps "none of these" to it beforehand.

    Raises `DataError` for different shapes and for any other value that is not a class.
    """
    labels, truth = np.asarray(labels), np.asarray(truth)
    if labels.shape != truth.shape:
        raise DataError(
            f"the label map is {labels.shape} and its ground truth {truth.shape}; "
            "resize the label map to the ground truth before scoring"
        )
    if classes <= 255 and labels.dtype == truth.dtype == np.uint8:
        return _count_bytes(labels, truth, classes)
    predicted, actual = as_classes(labels, classes, what="prediction"), as_classes(truth, classes)
    cells = np.bincount((actual * (classes + 1) + predicted).ravel(), minlength=(classes + 1) ** 2)
    return cells.reshape(classes + 1, classes + 1)[:-1].astype(np.int64)


def as_classes(labels: ArrayLike, classes: int, *, what: str = "ground truth") -> Integers:
    """A label map with C in place of 255 and 65535; raises `DataError` naming the value that is not a class."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DataError(f"the {what} holds {labels.dtype} values; give integers, one class id a pixel")
    none = labels == 65_535
    if classes <= 255 or labels.dtype == np.uint8:
        none |= labels == 255
    ids = np.where(none, classes, labels.astype(np.int64))
    wrong = (ids < 0) | (ids > classes) | ((ids == classes) & ~none)
    if wrong.any():
        _refuse(what, int(ids[wrong][0]), classes)
    return ids


def tally(counts: Integers) -> Integers:
    """True positives, false positives and false negatives of each class [3, C] of a matrix [C, C + 1]."""
    hits = counts.diagonal()
    return np.stack([hits, counts[:, :-1].sum(axis=0) - hits, counts.sum(axis=1) - hits])


def rows(tallies: Integers) -> Integers:
    """Tallies [3, C] as the short table [k, 4] of the classes that are not all zero: class and its three tallies."""
    touched = np.flatnonzero(tallies.any(axis=0))
    return np.column_stack([touched, tallies[:, touched].T])


def _count_bytes(labels: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> Integers:
    """`count` where every id fits a byte: both ids are joined to one 16-bit key, so one histogram holds all pairs."""
    keys = np.bitwise_or(np.left_shift(truth, 8, dtype=np.uint16), labels).ravel()
    table = _histogram(keys).reshape(256, 256)
    if table[classes:255].any():
        _refuse("ground truth", classes + int(np.flatnonzero(table[classes:255].any(axis=1))[0]), classes)
    if table[:, classes:255].any():
        _refuse("prediction", classes + int(np.flatnonzero(table[:, classes:255].any(axis=0))[0]), classes)
    return np.concatenate([table[:classes, :classes], table[:classes, 255:]], axis=1)


def _histogram(keys: NDArray[np.uint16]) -> Integers:
    """How often each 16-bit key occurs [65536]."""
    changes = keys[1:] != keys[:-1]
    if np.count_nonzero(changes) * 5 > keys.size:
        return np.bincount(keys, minlength=1 << 16)
    # label maps have long runs of one pair, and counting runs is several times faster than counting pixels
    bounds = np.concatenate([[0], np.flatnonzero(changes) + 1, [keys.size]])
    pixels = np.bincount(keys[bounds[:-1]], weights=np.diff(bounds), minlength=1 << 16)
    return pixels.astype(np.int64)  # sums of integers below 2**53 are exact in float64


def _refuse(what: str, value: int, classes: int) -> NoReturn:
    raise DataError(
        f"the {what} holds the value {value}, but there are {classes} classes (0 to {classes - 1}, "
        f"and {unlabelled(classes)} for none); map it to a class or to {unlabelled(classes)}"
    )
