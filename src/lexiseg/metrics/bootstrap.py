"""Estimates how far a score would move with other images.

It is a percentile bootstrap over the images of a data set.

Images are drawn with replacement, as many as there are, and their tallies are summed before anything is divided, just
as the score itself is made (Efron & Tibshirani 1993, chapters 13 and 16). Pixels of one image depend on each other, so
the image is what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lexiseg.errors import DataError
from lexiseg.metrics.scores import Subsets, measure

__all__ = ["Bootstrap", "Difference", "Interval", "differences", "intervals"]

Images = Mapping[str, NDArray[np.int64]]  # `Confusion.images`: name -> [k, 4]
_AT_ONCE = 64  # replicates in memory at a time


@dataclass(frozen=True)
class Bootstrap:
    """What is scored and how the images are drawn; the same value and images give the same numbers.

    classes: how many are scored.
    subsets, average: as in `scores.measure`.
    replicates: how often a data set is drawn.
    level: the share of the replicates that an interval holds, 0-1.
    seed: of the draws.
    """

    classes: int
    subsets: Subsets = field(default_factory=dict)
    average: str = "present_or_predicted"
    replicates: int = 1000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A score of the whole data set and the bounds of its confidence interval, fractions 0-1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First model minus second on the same images, with its interval; `wins` is the share of replicates that the
    first model wins, ties counted half. An interval that leaves out 0 is a difference at that level."""

    value: float
    low: float
    high: float
    wins: float


def intervals(images: Images, bootstrap: Bootstrap) -> dict[str, Interval]:
    """The interval of every score of `scores.measure`.

    Raises `DataError` where there are no images.
    """
    tables = [_table(images, sorted(images), bootstrap.classes)]
    (values,), (drawn,) = _measures(tables, bootstrap)
    return {name: Interval(float(values[name]), *_bounds(drawn[name], bootstrap.level)) for name in values}


def differences(first: Images, second: Images, bootstrap: Bootstrap) -> dict[str, Difference]:
    """Paired bootstrap: both models are scored on the same drawn images, so what they share cancels out.

    Raises `DataError` where the two were not measured on the same images.
    """
    if unpaired := first.keys() ^ second.keys():
        raise DataError(
            f"{len(unpaired)} images, {min(unpaired)!r} for one, were scored for one model only; "
            "evaluate both on the same images"
        )
    names = sorted(first)
    tables = [_table(images, names, bootstrap.classes) for images in (first, second)]
    values, drawn = _measures(tables, bootstrap)
    found = {}
    for name in values[0]:
        gaps = drawn[0][name] - drawn[1][name]
        wins = float(np.mean(gaps > 0) + np.mean(gaps == 0) / 2)
        found[name] = Difference(float(values[0][name] - values[1][name]), *_bounds(gaps, bootstrap.level), wins)
    return found


def _table(images: Images, names: Sequence[str], classes: int) -> sparse.csr_array:
    """The tallies of all images [I, 3 * C]; sparse, since an image shows few of the classes."""
    if not names:
        raise DataError("there are no images to draw from; name the images when their label maps are added")
    entries = np.concatenate([images[name] for name in names])  # [n, 4]
    image = np.repeat(np.arange(len(names)), [len(images[name]) for name in names])
    columns = entries[:, :1] + classes * np.arange(3)  # [n, 3]
    cells = (np.repeat(image, 3), columns.ravel())
    shape = (len(names), 3 * classes)
    return sparse.csr_array((entries[:, 1:].ravel().astype(np.float64), cells), shape=shape)


def _measures(
    tables: Sequence[sparse.csr_array], bootstrap: Bootstrap
) -> tuple[list[dict[str, NDArray[np.float64]]], list[dict[str, NDArray[np.float64]]]]:
    """For each table the scores [] of all images, and those of the draws [R]."""

    def scores(table: sparse.csr_array, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        tallies = (table.T @ weights.T).T.reshape(len(weights), 3, -1)  # [R, 3, C]
        return measure(tallies, subsets=bootstrap.subsets, average=bootstrap.average)

    everything = np.ones((1, tables[0].shape[0]))
    values = [{name: value[0] for name, value in scores(table, everything).items()} for table in tables]
    random = np.random.default_rng(bootstrap.seed)
    parts: list[list[dict[str, NDArray[np.float64]]]] = [[] for _ in tables]
    for start in range(0, bootstrap.replicates, _AT_ONCE):
        weights = _draw(random, min(_AT_ONCE, bootstrap.replicates - start), tables[0].shape[0])
        for part, table in zip(parts, tables, strict=True):
            part.append(scores(table, weights))
    drawn = [{name: np.concatenate([chunk[name] for chunk in part]) for name in part[0]} for part in parts]
    return values, drawn


def _draw(random: np.random.Generator, replicates: int, images: int) -> NDArray[np.float64]:
    """How often each image is drawn in each replicate [R, I]."""
    drawn = random.integers(images, size=(replicates, images))
    return np.stack([np.bincount(one, minlength=images) for one in drawn]).astype(np.float64)


def _bounds(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The percentiles that leave (1 - level) / 2 on either side; NaN where no replicate has the score."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
