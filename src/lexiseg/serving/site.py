"""Holds the page in memory.

There are its files, and the photographs that every installation has.

A request chooses among these by name; no path of a request is ever joined to a folder.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from importlib import resources

from PIL import Image

from lexiseg.data import bundled

__all__ = ["Asset", "site"]

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}
THUMBNAIL = 240  # pixels of the long side, at most


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str
    digest: str

    @classmethod
    def of(cls, content: bytes, suffix: str) -> Asset:
        return cls(content, TYPES[suffix], hashlib.sha256(content).hexdigest()[:16])


def site() -> dict[str, Asset]:
    """Every file by its path: "/" and "/static/..."."""
    found = {}
    folder = resources.files("lexiseg.serving") / "page"
    for file in folder.iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        if suffix in TYPES:
            found["/" if file.name == "index.html" else f"/static/{file.name}"] = Asset.of(file.read_bytes(), suffix)
    photographs = []
    for name, words in bundled.PHOTOGRAPHS.items():
        content = bundled.photograph(name).read_bytes()
        stem = name.rpartition(".")[0]
        found[f"/static/photographs/{name}"] = Asset.of(content, ".png")
        found[f"/static/photographs/{stem}.jpg"] = Asset.of(_thumbnail(content), ".jpg")
        places = {"small": f"/static/photographs/{stem}.jpg", "full": f"/static/photographs/{name}"}
        photographs.append({"name": name, "words": words, "about": bundled.ABOUT[name], **places})
    found["/static/photographs.js"] = Asset.of(
        f"export const photographs = {json.dumps(photographs)};\n".encode(), ".js"
    )
    return found


def _thumbnail(content: bytes) -> bytes:
    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    written = io.BytesIO()
    small.save(written, "JPEG", quality=85)
    return written.getvalue()
