"""Computes scores from the tallies of a confusion matrix.

They are pure functions: fractions 0-1, NaN where there is nothing to divide.

`tallies` are true positives, false positives and false negatives in pixels, [..., 3, C]; leading dimensions (bootstrap
replicates, images) pass through. Which classes a mean leaves out is the one convention that changes numbers silently:

    present_or_predicted  classes without a pixel in truth and prediction are left out (mmsegmentation,
                          maskclip.md §2.10). ZSSeg sums the IoU over the classes in the truth and divides by the
                          number of classes in truth or prediction: the same number, as a class that is only
                          predicted has IoU 0. The two differ per class alone: there ZSSeg writes NaN for that 0.
    present               classes without a pixel in the truth are left out, predicted or not
    all                   every class counts, with 0 where it has no pixel at all
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lexiseg.errors import SettingError, UnknownName

__all__ = [
    "AVERAGES",
    "Subsets",
    "accuracy",
    "frequency_weighted_iou",
    "harmonic_mean",
    "iou",
    "mean_accuracy",
    "mean_iou",
    "measure",
    "pixel_accuracy",
    "score",
]

AVERAGES = ("present_or_predicted", "present", "all")

Fractions: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = Sequence[bool] | NDArray[np.bool_]
Subsets: TypeAlias = Mapping[str, Flags]


def iou(tallies: ArrayLike) -> Fractions:
    """Intersection over union of each class [..., C]; NaN for classes in neither truth nor prediction."""
    hits, extra, missed = _parts(tallies)
    return _divide(hits, hits + extra + missed)


def accuracy(tallies: ArrayLike) -> Fractions:
    """Share of each class's true pixels that are labelled right [..., C]; NaN for classes not in the truth."""
    hits, _, missed = _parts(tallies)
    return _divide(hits, hits + missed)


def mean_iou(tallies: ArrayLike, *, among: Flags | None = None, average: str = "present_or_predicted") -> Fractions:
    """Mean of `iou` over the classes that `average` counts [...]; `among` [C] keeps a subset of them.

    All classes compete for the pixels whatever the subset is (generalised zero-shot).
    """
    hits, extra, missed = _parts(tallies)
    counted = _counted(hits, extra, missed, average=average) & _chosen(among, hits.shape[-1])
    values = np.where(counted, np.nan_to_num(iou(tallies)), 0.0)
    return _divide(values.sum(axis=-1), counted.sum(axis=-1))


def mean_accuracy(tallies: ArrayLike, *, among: Flags | None = None) -> Fractions:
    """Mean of `accuracy` over the classes in the truth [...]."""
    hits, _, missed = _parts(tallies)
    counted = (hits + missed > 0) & _chosen(among, hits.shape[-1])
    values = np.where(counted, np.nan_to_num(accuracy(tallies)), 0.0)
    return _divide(values.sum(axis=-1), counted.sum(axis=-1))


def pixel_accuracy(tallies: ArrayLike, *, among: Flags | None = None) -> Fractions:
    """Share of all labelled pixels that are right [...]; with `among`, of the pixels whose true class is in it."""
    hits, _, missed = _parts(tallies)
    kept = _chosen(among, hits.shape[-1])
    return _divide(np.where(kept, hits, 0).sum(axis=-1), np.where(kept, hits + missed, 0).sum(axis=-1))


def frequency_weighted_iou(tallies: ArrayLike) -> Fractions:
    """Mean of `iou` weighted by each class's true pixels [...]."""
    hits, _, missed = _parts(tallies)
    pixels = hits + missed
    return _divide((pixels * np.nan_to_num(iou(tallies))).sum(axis=-1), pixels.sum(axis=-1))


def harmonic_mean(seen: ArrayLike, unseen: ArrayLike) -> Fractions:
    """hIoU = 2 S U / (S + U): 0 where both are 0."""
    seen, unseen = np.asarray(seen, dtype=np.float64), np.asarray(unseen, dtype=np.float64)
    total = seen + unseen
    return _divide(2 * seen * unseen, np.where(total == 0, 1.0, total))


def measure(
    tallies: ArrayLike, *, subsets: Subsets | None = None, average: str = "present_or_predicted"
) -> dict[str, Fractions]:
    """Every score by name [...]: of all classes, and of each subset as `miou_NAME` and `pixel_accuracy_NAME`.

    `hiou` is there where `subsets` has both "seen" and "unseen".
    """
    scores = {
        "miou": mean_iou(tallies, average=average),
        "pixel_accuracy": pixel_accuracy(tallies),
        "mean_accuracy": mean_accuracy(tallies),
        "frequency_weighted_iou": frequency_weighted_iou(tallies),
    }
    for name, flags in (subsets or {}).items():
        scores[f"miou_{name}"] = mean_iou(tallies, among=flags, average=average)
        scores[f"pixel_accuracy_{name}"] = pixel_accuracy(tallies, among=flags)
    if {"miou_seen", "miou_unseen"} <= scores.keys():
        scores["hiou"] = harmonic_mean(scores["miou_seen"], scores["miou_unseen"])
    return scores


def score(
    tallies: ArrayLike, *, subsets: Subsets | None = None, average: str = "present_or_predicted"
) -> dict[str, float]:
    """`measure` of one data set [3, C] as plain numbers."""
    return {name: float(value) for name, value in measure(tallies, subsets=subsets, average=average).items()}


def _parts(tallies: ArrayLike) -> tuple[Fractions, Fractions, Fractions]:
    values = np.asarray(tallies, dtype=np.float64)  # exact below 2**53 pixels
    assert values.shape[-2:-1] == (3,), "tallies are [..., 3, C]"
    return values[..., 0, :], values[..., 1, :], values[..., 2, :]


def _counted(hits: Fractions, extra: Fractions, missed: Fractions, *, average: str) -> NDArray[np.bool_]:
    if average not in AVERAGES:
        raise UnknownName("average", average, AVERAGES)
    pixels = {"present_or_predicted": hits + extra + missed, "present": hits + missed, "all": np.ones_like(hits)}
    return pixels[average] > 0


def _chosen(among: Flags | None, classes: int) -> NDArray[np.bool_]:
    flags = np.ones(classes, dtype=bool) if among is None else np.asarray(among, dtype=bool)
    if flags.shape != (classes,):
        raise SettingError(f"a subset has {flags.size} flags for {classes} classes; give one for each")
    return flags


def _divide(part: ArrayLike, whole: ArrayLike) -> Fractions:
    """part / whole, NaN where the whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=out, where=whole != 0)
    return out
