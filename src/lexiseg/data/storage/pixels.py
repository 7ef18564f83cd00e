"""Keeps decoded pictures end to end in one array.

Each is decoded once; the array is in memory or in a file that processes share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lexiseg import files

__all__ = ["file_hash", "keep_pixels"]

Pixels = NDArray[np.uint8]


def keep_pixels(total: int, decode: Callable[[], Iterable[Pixels]], file: Path | None) -> Pixels:
    """The `total` bytes of the arrays that `decode` gives, flattened one after the other.

    file: where they are kept between runs and mapped from; None keeps them in memory. A file of the right size is
        taken as it is, so its name must tell what is in it. Raises `OutputError` where it cannot be written.
    """
    if file is None:
        pixels, end = np.empty(total, np.uint8), 0
        for array in decode():
            pixels[end : end + array.size] = array.reshape(-1)
            end += array.size
        assert end == total, "the sizes were known before"
        return pixels
    if not file.is_file() or file.stat().st_size != total:
        with files.atomic(file) as temporary, temporary.open("wb") as output:
            for array in decode():
                output.write(np.ascontiguousarray(array).data)
    return np.memmap(file, np.uint8, "r", shape=(total,))


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
