"""Tells which files lexiseg wrote, and what each was made with.

Every file that lexiseg writes carries who wrote it: a PNG in its text chunks, a JSON file under "made_by" (COCO's under
"info"), an .npz in its facts. The label map of a photograph is also known by the sidecar beside it, since an editor may
drop the chunks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Origin", "file_digest", "of", "png_texts", "sidecar", "stamp"]

SOFTWARE, MADE_WITH = "Software", "lexiseg:made-with"  # keywords of PNG text chunks; the first is the standard's


@dataclass(frozen=True)
class Origin:
    """What a file says of itself.

    made_by: "lexiseg" and the version.
    made_with: a hash of photograph, words, model and settings; "" where it was not recorded.
    edited: the label map is not the one that was written: another program changed it.
    """

    made_by: str
    made_with: str = ""
    edited: bool = False


def stamp(made_with: str = "") -> dict[str, str]:
    """What a file is to say of itself, by name."""
    from lexiseg import __version__

    return {"made_by": f"lexiseg {__version__}", "made_with": made_with}


def png_texts(made_with: str = "") -> dict[str, str]:
    """The same as text chunks of a PNG, by keyword."""
    told = stamp(made_with)
    return {SOFTWARE: told["made_by"], MADE_WITH: told["made_with"]}


def of(path: str | os.PathLike[str]) -> Origin | None:
    """What a file says of its origin; None for a file that lexiseg did not write, or that cannot be read."""
    path = Path(path)
    readers = {".png": _of_png, ".npz": _of_npz, ".json": _of_json}
    read = readers.get(path.suffix.lower())
    if read is None or not path.is_file():
        return None
    try:
        return read(path)
    except Exception:  # a file of another kind fails in many ways, and is not ours
        return None


def sidecar(path: Path) -> Path:
    """The JSON file that belongs to a label map."""
    return path.with_name(path.name.removesuffix(path.suffix) + ".json")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_png(path: Path) -> Origin | None:
    beside = _read(sidecar(path))
    if isinstance(beside, Mapping) and "sha256" in beside and (told := _origin(beside)) is not None:
        return replace(told, edited=beside["sha256"] != file_digest(path))
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(path) as picture:
        return _origin({"made_by": picture.info.get(SOFTWARE), "made_with": picture.info.get(MADE_WITH)})


def _of_npz(path: Path) -> Origin | None:
    with np.load(path, allow_pickle=False) as arrays:
        return _origin(json.loads(str(arrays["facts"])))


def _of_json(path: Path) -> Origin | None:
    content = _read(path)
    return _origin(content.get("info") or content)


def _origin(facts: Mapping[str, Any]) -> Origin | None:
    made_by = facts.get("made_by")
    if not isinstance(made_by, str) or not made_by.startswith("lexiseg "):
        return None
    return Origin(made_by, str(facts.get("made_with") or ""))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
