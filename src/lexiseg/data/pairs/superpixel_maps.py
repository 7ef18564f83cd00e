"""Makes and keeps the superpixels of training pictures.

The processes that prepare samples make them; a folder keeps them.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg import files
from lexiseg.data.geometry import resize_labels
from lexiseg.data.pictures.superpixels import Felzenszwalb

__all__ = ["SuperpixelMaps", "Superpixels"]

MOST = 2**16  # superpixels that a grey PNG of 16 bits can name


@dataclass(frozen=True)
class Superpixels(Felzenszwalb):
    """Superpixels of each whole picture, which are then cropped with it; see `Felzenszwalb`.

    cache: a folder that keeps them, at the size they were made at, about 3 KB each; None makes them anew each time.
    """

    cache: str | None = None

    def maps(self) -> SuperpixelMaps:
        return SuperpixelMaps(self)


class SuperpixelMaps:
    """A `MapSource`; a picture is known by its pixels, so that the folder may serve any number of data sets."""

    def __init__(self, settings: Superpixels) -> None:
        self._settings = settings
        self._facts = {name: value for name, value in asdict(settings).items() if name != "cache"}

    def map(self, key: str, image: Image.Image) -> NDArray[np.int32]:
        """Int32 [H, W] of the picture's size; each pixel has the number of the nearest one in the scaled picture."""
        small = self._small(image)
        return (
            small if small.shape == (image.height, image.width) else resize_labels(small, (image.height, image.width))
        )

    def manifest(self) -> dict[str, Any]:
        return {"kind": "superpixels", **self._facts}

    def _small(self, image: Image.Image) -> NDArray[np.int32]:
        path = self._path(image)
        if path is None:
            return self._make(image)
        try:
            with Image.open(path) as kept:
                return np.asarray(kept).astype(np.int32)
        except (OSError, SyntaxError, ValueError):  # not there yet, or broken
            made = self._make(image)
        if made.max() < MOST:
            buffer = io.BytesIO()
            Image.fromarray(made.astype(np.uint16)).save(buffer, "PNG")
            files.write_bytes(path, buffer.getvalue())
        return made

    def _make(self, image: Image.Image) -> NDArray[np.int32]:
        side = self._settings.short_side
        if side is not None and side != min(image.size):
            factor = side / min(image.size)
            size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
            image = image.resize(size, Image.Resampling.LANCZOS)
        return self._settings.labels(np.asarray(image))

    def _path(self, image: Image.Image) -> Path | None:
        if self._settings.cache is None:
            return None
        facts = f"{image.size} {files.digest(self._facts)}".encode()
        name = hashlib.blake2b(facts + image.tobytes(), digest_size=16).hexdigest()
        return Path(self._settings.cache).expanduser() / name[:2] / f"{name}.png"
