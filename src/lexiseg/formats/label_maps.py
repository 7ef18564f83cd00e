"""Writes a label map with its facts, and reads both back.

Facts are plain JSON values. Their `size` is [height, width]; written to a file they also say who made it and with what
(`origin.stamp`), and beside a PNG whether that is "palette" or "grey", and its `sha256`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg import files
from lexiseg.errors import DataError, OutputError
from lexiseg.formats import origin, png

__all__ = ["check_pair", "npz_bytes", "read_npz", "read_png", "write_masks", "write_npz", "write_png"]

Labels = npt.NDArray[np.uint8 | np.uint16]
Scores = npt.NDArray[np.float16] | None


def write_png(
    path: Path, labels: Labels, facts: Mapping[str, Any], palette: npt.NDArray[np.uint8] | None, *, made_with: str
) -> None:
    """The labels as a PNG with a palette [256, 3], or in grey without one, and the facts as JSON beside it.

    Both files are complete before either takes its place, and the JSON tells which label map is its own.

    Raises `OutputError` where a file cannot be written or is not lexiseg's.
    """
    beside = origin.sidecar(path)
    _refuse_foreign(path)
    _refuse_foreign(beside)
    content = png.encode(labels, palette, texts=origin.png_texts(made_with))
    told = {"sha256": hashlib.sha256(content).hexdigest(), "png": "grey" if palette is None else "palette"}
    with files.atomic(beside) as written, files.atomic(path) as pixels:
        written.write_bytes(files.utf8(_text(facts, made_with, told) + "\n"))
        pixels.write_bytes(content)


def read_png(path: Path) -> tuple[Labels, dict[str, Any]]:
    """What `write_png` wrote; raises an exception of any kind where it is missing or damaged."""
    # not Image.open: it refuses large pictures, whose size is known here
    from PIL.PngImagePlugin import PngImageFile

    facts = json.loads(origin.sidecar(path).read_text(encoding="utf-8"))
    with PngImageFile(path) as picture:
        if [picture.height, picture.width] != facts["size"] or picture.mode not in ("P", "1", "L", "I;16"):
            raise ValueError(f"it is {picture.mode} {picture.height}x{picture.width}, not labels of {facts['size']}")
        return png.stored(picture), facts


def check_pair(path: Path, facts: Mapping[str, Any]) -> None:
    """Raises `DataError` where a PNG is not the one that its facts were written with."""
    if facts.get("sha256") != origin.file_digest(path):
        raise DataError(
            f"{path} is not the label map that {origin.sidecar(path).name} was written with: another program changed "
            "it, or a write was cut off; load it with edited=True if you edited it, else make it again"
        )


def write_npz(path: Path, labels: Labels, scores: Scores, facts: Mapping[str, Any], *, made_with: str) -> None:
    """Labels, scores and facts in one file, uncompressed; raises `OutputError` as `write_png` does."""
    _refuse_foreign(path)
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **_arrays(labels, scores, facts, made_with))


def npz_bytes(labels: Labels, scores: Scores, facts: Mapping[str, Any]) -> bytes:
    """What `write_npz` writes."""
    content = io.BytesIO()
    np.savez(content, **_arrays(labels, scores, facts, ""))
    return content.getvalue()


def _arrays(labels: Labels, scores: Scores, facts: Mapping[str, Any], made_with: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {"labels": labels, "facts": np.array(_text(facts, made_with, {}))}
    return arrays if scores is None else arrays | {"scores": scores}


def write_masks(path: Path, masks: npt.NDArray[np.bool_], facts: Mapping[str, Any], *, made_with: str) -> None:
    """Masks [N, H, W] that may overlap, and facts, in one file; raises `OutputError` as `write_png` does."""
    _refuse_foreign(path)
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, masks=masks, facts=np.array(_text(facts, made_with, {})))


def read_npz(path: Path) -> tuple[Labels, Scores, dict[str, Any]]:
    """What `write_npz` wrote; raises an exception of any kind where it is missing or damaged."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["labels"], arrays.get("scores"), json.loads(str(arrays["facts"]))


def _text(facts: Mapping[str, Any], made_with: str, told: Mapping[str, str]) -> str:
    # default=str: a path among the settings must not lose the result
    return json.dumps({**origin.stamp(made_with), **told, **facts}, indent=1, ensure_ascii=False, default=str)


def _refuse_foreign(path: Path) -> None:
    if path.exists() and origin.of(path) is None:
        raise OutputError(f"{path} exists and lexiseg did not write it; choose another name, or move it away")
