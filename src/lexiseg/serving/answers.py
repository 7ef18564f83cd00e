"""Writes label maps as answers.

They are JSON with run lengths or whole maps, COCO, PNG, NPZ and overlays.

Nothing here says where the server keeps anything: `redacted` takes paths out of the settings first.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.segmentation import Segmentation

__all__ = ["FILES", "file", "packed", "redacted", "result", "score_map", "to_bytes"]

FILES = {
    "coco": ("application/json", ".coco.json"),
    "png": ("image/png", ".png"),
    "npz": ("application/x-npz", ".npz"),
    "overlay": ("image/png", ".overlay.png"),
}
PRIVATE = "(of the server)"


def result(found: Segmentation, name: str, form: str) -> dict[str, Any]:
    """One photograph in an answer. form: "json" for run lengths, "map" for every pixel."""
    facts = found.to_json()
    content = {"name": name, **{key: facts[key] for key in ("size", "unlabelled", "classes")}}
    if form == "json":
        content["segments"] = found.to_coco_rle()
    else:
        content["dtype"] = found.labels.dtype.name
        content["labels"] = packed(found.labels.astype(found.labels.dtype.newbyteorder("<"), copy=False))
        content["scores"] = None if found.scores is None else packed(_levels(found.scores))
    return {**content, "warnings": list(found.warnings)}


def score_map(scores: npt.NDArray[np.float16], name: str) -> dict[str, Any]:
    """A map of posteriors [h, w]."""
    return {
        "name": name,
        "grid": list(scores.shape),
        "scores": packed(_levels(scores)),
        "highest": float(scores.max()),
    }


def file(found: Segmentation, name: str, form: str) -> bytes:
    """The label map as one of `FILES`. name: of the photograph."""
    if form == "coco":
        return to_bytes(found.to_coco(name))
    if form == "png":
        return found.to_png()
    if form == "npz":
        return found.to_npz()
    assert form == "overlay"
    content = io.BytesIO()
    found.overlay().save(content, "PNG", compress_level=3)
    return content.getvalue()


def redacted(found: Segmentation) -> Segmentation:
    """The same without the photograph, and without what its settings tell of the server's files."""
    settings = {**_without_places(found.settings), "model": found.model}
    return dataclasses.replace(found, settings=settings, image=None)


def packed(values: npt.NDArray[Any]) -> str:
    """base64 of zlib of the array's bytes, row by row."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 1)).decode("ascii")


def to_bytes(content: Any) -> bytes:
    """JSON in UTF-8; what is no text becomes question marks."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def _levels(scores: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    return np.rint(scores.astype(np.float32) * 255).astype(np.uint8)


def _without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _clean(value) for key, value in settings.items() if key != "weights"}


def _clean(value: Any) -> Any:
    match value:
        case str() if _is_place(value):
            return PRIVATE
        case Mapping():
            return _without_places(value)
        case str():
            return value
        case Sequence():
            return [_clean(one) for one in value]
    return value


def _is_place(text: str) -> bool:
    return PurePath(text).is_absolute() or text.startswith((".", "~")) or "\\" in text or PurePath(text).suffix != ""
