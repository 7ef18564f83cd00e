"""Writes label maps as COCO annotations with compressed run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as run_lengths

__all__ = ["data_set", "encode"]


def encode(
    labels: npt.NDArray[np.uint8 | np.uint16], names: Mapping[int, str], scores: Mapping[int, float] | None = None
) -> list[dict[str, Any]]:
    """An annotation for each class of the label map [H, W], as plain JSON values.

    names: the name of each label that occurs; the annotations keep their order.
    scores: of each label, 0-1; without them the annotations have none.
    """
    by_column = np.asfortranarray(labels)  # run lengths go down the columns
    found = [_annotation(by_column == label, label, name) for label, name in names.items()]
    return found if scores is None else [one | {"score": scores[one["category_id"]]} for one in found]


def data_set(
    annotations: Sequence[Mapping[str, Any]], names: Sequence[str], size: tuple[int, int], file_name: str
) -> dict[str, Any]:
    """A COCO data set of one image, which `pycocotools.COCO` loads.

    names: of all classes, in the order of their labels.
    size: (height, width).
    file_name: of the photograph.
    """
    height, width = size
    return {
        "info": {"description": "made by lexiseg"},
        "images": [{"id": 1, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": label, "name": name} for label, name in enumerate(names)],
        "annotations": [
            {"id": number, "image_id": 1, "iscrowd": 0, **annotation}
            for number, annotation in enumerate(annotations, start=1)
        ],
    }


def _annotation(mask: npt.NDArray[np.bool_], label: int, name: str) -> dict[str, Any]:
    rle = run_lengths.encode(mask.view(np.uint8))
    return {
        "category": name,
        "category_id": label,
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
        "area": int(run_lengths.area(rle)),
        "bbox": run_lengths.toBbox(rle).tolist(),
    }
