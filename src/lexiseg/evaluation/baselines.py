"""Scores random and constant labels, from the tallies alone.

random                   every pixel one of the classes at random, in expectation
majority class           everywhere the class with the most pixels in the data set
largest class of each    in each image everywhere the class with the most pixels in it, as if it were known
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lexiseg.metrics.confusion import Confusion
from lexiseg.metrics.scores import score

__all__ = ["baselines"]

Totals = NDArray[np.float64]


def baselines(
    confusion: Confusion, *, own_words: bool = False, average: str = "present_or_predicted"
) -> dict[str, dict[str, float]]:
    """mIoU and pixel accuracy of each baseline on the images of `confusion`, fractions 0-1.

    own_words: each image is asked about the classes in it alone, so that random means one of those.
    """
    truth = _truth(confusion)  # [I, C]
    kinds = {"random": _random(truth, own_words=own_words), "largest class of each image": _largest(truth)}
    if not own_words:  # the class may not be among an image's own words
        kinds["majority class"] = _majority(truth)
    measured = {name: score(tallies, average=average) for name, tallies in kinds.items()}
    return {name: {key: scores[key] for key in ("miou", "pixel_accuracy")} for name, scores in measured.items()}


def _truth(confusion: Confusion) -> Totals:
    """The true pixels of each class in each image [I, C]."""
    truth = np.zeros((len(confusion.images), confusion.classes))
    for row, table in zip(truth, confusion.images.values(), strict=True):
        row[table[:, 0]] = table[:, 1] + table[:, 3]  # hits and misses
    return truth


def _random(truth: Totals, *, own_words: bool) -> Totals:
    """Tallies [3, C]: a share of an image's pixels is predicted to be each of the classes that are asked for."""
    asked = truth > 0 if own_words else np.ones_like(truth, dtype=bool)
    share = asked / np.maximum(asked.sum(axis=1, keepdims=True), 1)  # [I, C]
    hits = (truth * share).sum(axis=0)
    predicted = (truth.sum(axis=1, keepdims=True) * share).sum(axis=0)
    return np.stack([hits, predicted - hits, truth.sum(axis=0) - hits])


def _majority(truth: Totals) -> Totals:
    pixels = truth.sum(axis=0)
    return _one_class(pixels[None], np.array([pixels.argmax()]))


def _largest(truth: Totals) -> Totals:
    return _one_class(truth, truth.argmax(axis=1))


def _one_class(truth: Totals, chosen: NDArray[np.int64]) -> Totals:
    """Tallies [3, C] where row i of `truth` [I, C] is predicted to be class chosen[i] as a whole."""
    predicted, hits = np.zeros(truth.shape[1]), np.zeros(truth.shape[1])
    np.add.at(predicted, chosen, truth.sum(axis=1))
    np.add.at(hits, chosen, truth[np.arange(len(truth)), chosen])
    return np.stack([hits, predicted - hits, truth.sum(axis=0) - hits])
