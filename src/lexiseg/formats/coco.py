"""Writes and reads masks as COCO's compressed run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as run_lengths

__all__ = ["annotation", "data_set", "decode", "encode"]


def encode(
    labels: npt.NDArray[np.uint8 | np.uint16], names: Mapping[int, str], scores: Mapping[int, float] | None = None
) -> list[dict[str, Any]]:
    """An annotation for each class of the label map [H, W], as plain JSON values.

    names: the name of each label that occurs; the annotations keep their order.
    scores: of each label, 0-1; without them the annotations have none.
    """
    by_column = np.asfortranarray(labels)  # run lengths go down the columns
    found = [annotation(by_column == label, label, name) for label, name in names.items()]
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


def annotation(mask: npt.NDArray[np.bool_], label: int, name: str) -> dict[str, Any]:
    """One mask [H, W], in column order for speed, as plain JSON values."""
    rle = run_lengths.encode(np.asfortranarray(mask).view(np.uint8))
    return {
        "category": name,
        "category_id": label,
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode("ascii")},
        "area": int(run_lengths.area(rle)),
        "bbox": run_lengths.toBbox(rle).tolist(),
    }


def decode(segmentation: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask [H, W] of {"size": [H, W], "counts": ...}, the counts compressed to a text or not (a list).

    size: what (H, W) must be.

    Not pycocotools' decoder, which trusts its input: of run lengths that end early it returns memory as it finds it.
    Raises `ValueError` for anything else, in a few words.
    """
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= set(segmentation):
        kind = "polygons" if isinstance(segmentation, list) else "something else"
        raise ValueError(f"a mask is {kind}, not run lengths")
    counts = segmentation["counts"]
    if segmentation["size"] != list(size):
        raise ValueError(f"a mask has size {segmentation['size']!r} and the photograph {list(size)} (height, width)")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("a mask has run lengths that are not whole numbers of 0 or more")
    height, width = size
    if sum(runs) != height * width:
        raise ValueError(f"a mask of {height} x {width} has run lengths for {sum(runs):,} pixels")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # down the columns
    return np.asarray(inside.reshape(width, height).T)


def _uncompressed(text: str) -> list[int]:
    """Run lengths from COCO's text: 5 bits a letter, lowest first, a sixth where more follow; differences from the
    run before the last one after the third."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise ValueError(f"a mask has {letter!r} among its run lengths")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("a mask has run lengths that are cut off")
    return runs
