"""Tells how good masks without names could be.

The ground truth names them, and what remains wrong is the masks' fault.

ZSSeg does this for proposals that overlap (Table 6), S-Seg for the parts of a pseudo-mask (Table 1). The label maps
that come out are scored like any other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lexiseg.errors import DataError, UnknownName
from lexiseg.metrics.confusion import as_classes, unlabelled

__all__ = ["ASSIGNMENTS", "label_proposals", "label_segments", "proposal_weights"]

ASSIGNMENTS = ("hard", "soft")
_PIXELS_AT_ONCE = 1 << 16  # of the [C, H, W] sum, which is never held whole

Labels = NDArray[np.uint8] | NDArray[np.uint16]


def label_proposals(masks: ArrayLike, truth: ArrayLike, classes: int, *, assign: str = "hard") -> Labels:
    """The label map [H, W] of proposals that may overlap, each weighted by the ground truth.

    masks: [N, H, W], the sigmoid of the mask logits (0-1), or booleans, at the size of the truth.
    truth: [H, W]; 255 and 65535 are ignored.
    assign: "hard", the class of the largest overlap (the paper), or "soft", IoUs that sum to 1 (the released code).

    A pixel takes the class with the largest sum of weight times mask, as in ZSSeg; where all are 0 it
    stays unlabelled. Raises `DataError` for shapes that do not fit.
    """
    masks = np.asarray(masks, dtype=np.float32)
    weights = proposal_weights(masks > 0.5, truth, classes, assign=assign).astype(np.float32)  # [N, C]
    flat = masks.reshape(len(masks), np.size(truth))
    labels = np.empty(flat.shape[1], dtype=np.min_scalar_type(unlabelled(classes)))
    for start in range(0, flat.shape[1], _PIXELS_AT_ONCE):
        part = slice(start, start + _PIXELS_AT_ONCE)
        sums = weights.T @ flat[:, part]  # [C, pixels]
        labels[part] = np.where(sums.max(axis=0) > 0, sums.argmax(axis=0), unlabelled(classes))
    return labels.reshape(masks.shape[1:])


def proposal_weights(
    masks: NDArray[np.bool_], truth: ArrayLike, classes: int, *, assign: str = "hard"
) -> NDArray[np.float64]:
    """How much each mask [N, H, W] votes for each class [N, C]; rows sum to 1, or to 0 for a mask on nothing known."""
    if assign not in ASSIGNMENTS:
        raise UnknownName("assignment", assign, ASSIGNMENTS)
    actual = as_classes(truth, classes)
    if masks.shape[1:] != actual.shape:
        raise DataError(f"the masks are {masks.shape} and the ground truth {actual.shape}; resize them to [N, H, W]")
    overlap = np.zeros((len(masks), classes), dtype=np.int64)
    for row, mask in zip(overlap, masks, strict=True):
        row += np.bincount(actual[mask], minlength=classes + 1)[:classes]
    if assign == "hard":
        weights = np.eye(classes)[overlap.argmax(axis=1)]
        return np.where(overlap.any(axis=1, keepdims=True), weights, 0.0)
    area = np.bincount(actual.ravel(), minlength=classes + 1)[:classes]
    union = overlap.sum(axis=1, keepdims=True) + area - overlap  # ignored pixels are in neither
    iou = overlap / np.maximum(union, 1)
    return np.asarray(iou / np.maximum(iou.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))


def label_segments(segments: ArrayLike, truth: ArrayLike, classes: int) -> Labels:
    """The label map [H, W] of a class-agnostic segmentation: each part gets the class that most of its pixels have.

    segments: [H, W], any integers, one for each part. A part that lies on ignored pixels alone stays unlabelled.
    """
    segments, actual = np.asarray(segments), as_classes(truth, classes)
    if segments.shape != actual.shape:
        raise DataError(f"the segments are {segments.shape} and the ground truth {actual.shape}; resize one of them")
    parts, part_of = np.unique(segments, return_inverse=True)
    cells = part_of.ravel() * (classes + 1) + actual.ravel()
    overlap = np.bincount(cells, minlength=len(parts) * (classes + 1)).reshape(len(parts), classes + 1)[:, :classes]
    best = np.where(overlap.any(axis=1), overlap.argmax(axis=1), unlabelled(classes))
    return best.astype(np.min_scalar_type(unlabelled(classes)))[part_of].reshape(segments.shape)
