"""Keeps slow label maps as 16-bit PNGs.

So polygons are drawn and panoptic pictures decoded once.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.data.labelled.labels import Ids, Png, SlowLabel
from lexiseg.data.storage.stored import File
from lexiseg.errors import DataError, OutputError
from lexiseg.files import write_bytes

__all__ = ["Kept"]

_VERSION = "1"  # raise it when what a copy holds changes


@dataclass(frozen=True, eq=False)
class Kept:
    """A label map with a copy in `folder`.

    The copy holds raw ids, so it serves every class list. Its name is a hash of the source's place, size and time:
    a release that is unpacked again, or changed, is read anew. A copy that is broken or cannot be written costs time
    and nothing else.
    """

    label: SlowLabel
    folder: Path

    @property
    def file(self) -> File:
        return self.label.file

    def ids(self) -> Ids:
        copy = self._path()
        if copy.is_file():
            with contextlib.suppress(DataError):
                return Png(copy).ids()
        ids = self.label.ids()
        with contextlib.suppress(OutputError):
            write_bytes(copy, _png(ids))
        return ids

    def _path(self) -> Path:
        name = self.label.fingerprint()
        return self.folder / f"v{_VERSION}" / name[:2] / f"{name[2:34]}.png"


def _png(ids: Ids) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ids.astype(np.uint16)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
