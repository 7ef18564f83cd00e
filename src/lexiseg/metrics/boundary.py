"""Computes boundary IoU, which sees contours where mIoU is blind.

It is the IoU of the thin bands along the inside of the contours (Cheng et al. 2021).

The band of a mask is the mask minus its erosion by d pixels, d a fraction of the image's diagonal. The borders of the
image are contours. Bands are tallied per class and summed over the data set, like everything else here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lexiseg.errors import DataError
from lexiseg.metrics.confusion import as_classes

__all__ = ["band", "boundary_tallies"]


def boundary_tallies(labels: ArrayLike, truth: ArrayLike, classes: int, *, ratio: float = 0.02) -> NDArray[np.int64]:
    """Tallies [3, C] of the bands of one image: add them up, and `scores.mean_iou` is the boundary IoU.

    ratio: the width of the band as a fraction of the diagonal; 2 % in the paper (0.5 % for its Cityscapes).

    Pixels whose truth is 255 or 65535 are left out of both bands, after the bands are drawn: an ignored rim bounds the
    object inside it. Raises `DataError` as `confusion.count` does.
    """
    predicted, actual = as_classes(labels, classes, what="prediction"), as_classes(truth, classes)
    if predicted.shape != actual.shape or actual.ndim != 2:
        raise DataError(f"the label map is {predicted.shape} and its ground truth {actual.shape}; give both [H, W]")
    width = max(1, round(ratio * math.hypot(*actual.shape)))  # pixels
    known = actual < classes
    in_labels, in_truth = band(predicted, width) & known, band(actual, width) & known
    hits = _pixels(actual[in_labels & in_truth & (predicted == actual)], classes)
    extra = _pixels(predicted[in_labels], classes) - hits
    return np.stack([hits, extra, _pixels(actual[in_truth], classes) - hits])


def band(labels: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Where a label map [H, W] lies within `width` pixels of another label or of the image's border.

    That is the union over all classes of mask minus erosion (a 3 x 3 square, `width` times): a pixel survives the
    erosion of its own class exactly if the square around it holds one label only.
    """
    side = 2 * width + 1
    highest = ndimage.maximum_filter(labels, size=side, mode="constant", cval=-1)
    lowest = ndimage.minimum_filter(labels, size=side, mode="constant", cval=-1)
    return np.asarray(highest != lowest)


def _pixels(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=classes + 1)[:classes].astype(np.int64)
