"""Reads members of webdataset tar shards by position.

Positions are listed once; then any member can be read.

Members that share the path before the first dot of their name form one sample: `000012.jpg` and `000012.txt`.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.data.storage.texts import Texts
from lexiseg.errors import BadSample, DataError

__all__ = ["CAPTION", "IMAGE", "JSON", "Shard", "find_shards", "parse_object"]

Field = tuple[str, ...]  # the extensions a field may have, the preferred one first

IMAGE: Field = ("jpg", "jpeg", "png", "webp")
CAPTION: Field = ("txt", "json")
JSON: Field = ("json",)

_BLOCK = 512  # bytes; a complete tar ends with two blocks of zeros


class Shard:
    """One tar file and where the wanted fields of each of its samples lie.

    fields: what is wanted; a sample lacks a field when none of its extensions is there.

    A shard that ends early keeps the samples before the cut, and `cut` is True; a file that is not a tar has none.
    """

    def __init__(self, path: Path, fields: Sequence[Field]) -> None:
        self.path, self.fields = path, tuple(fields)
        members, self.cut = _members(path)
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        for name, start, size in members:
            key, extension = _split(name)
            samples.setdefault(key, {})[extension] = (start, size)
        self.keys = Texts(samples)
        found = [[_pick(sample, field) for field in self.fields] for sample in samples.values()]
        where = np.asarray(found, np.int64).reshape(len(samples), len(self.fields), 3)
        self._start = where[..., 0].copy()  # [samples, fields], bytes
        self._size = where[..., 1].astype(np.int32)  # -1 where a sample lacks the field
        self._extension = where[..., 2].astype(np.uint8)  # which of the field's extensions it has

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return f"{self.path.stem}/{self.keys[index]}"

    def check_whole(self) -> None:
        """Raises `DataError` for a shard that ends early or is empty, where none of it may be missing."""
        if self.cut or not len(self):
            raise DataError(f"{self.path} ends early; copy it again")

    def need(self, index: int, field: int) -> bytes:
        """As `read`, where the field must be there: raises `DataError` otherwise."""
        found = self.read(index, field)
        if found is None:
            raise DataError(f"{self.key(index)} in {self.path} has no {' or '.join(self.fields[field])}; copy it again")
        return found[0]

    def read(self, index: int, field: int) -> tuple[bytes, str] | None:
        """The bytes of a sample's field and the extension it has; None where the sample lacks it.

        The file is opened for each read, so that threads and forked processes share nothing.
        """
        size = int(self._size[index, field])
        if size < 0:
            return None
        with self.path.open("rb") as file:
            data = os.pread(file.fileno(), size, int(self._start[index, field]))
        if len(data) < size:
            raise BadSample("shard ends early", str(self.path))
        return data, self.fields[field][self._extension[index, field]]


def parse_object(data: bytes) -> dict[str, Any]:
    """Bytes as a JSON object; raises `BadSample` where they are none."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise BadSample("broken json", str(error)) from error
    if not isinstance(content, dict):
        raise BadSample("broken json", "not an object")
    return content


def find_shards(place: Path) -> list[Path]:
    """The tar files of a folder, or those that a pattern such as `shards/00*.tar` names, sorted.

    Raises `DataError` where there are none.
    """
    found = sorted(place.glob("*.tar") if place.is_dir() else place.parent.glob(place.name))
    found = [path for path in found if not path.name.startswith(".")]  # half-written ones
    if not found:
        raise DataError(f"{place} holds no .tar shards; name the folder they are in, or a pattern")
    return found


def _members(path: Path) -> tuple[list[tuple[str, int, int]], bool]:
    """Name, first byte and size of each whole file in the tar, and whether it ends early."""
    size = path.stat().st_size
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile() and member.offset_data + member.size <= size:
                    found.append((member.name, member.offset_data, member.size))
    except tarfile.ReadError:
        return found, True
    with path.open("rb") as file:
        file.seek(max(0, size - 2 * _BLOCK))
        return found, any(file.read())


def _split(name: str) -> tuple[str, str]:
    """A member's sample and extension: "a/b.seg.png" is "seg.png" of "a/b"."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _pick(sample: dict[str, tuple[int, int]], field: Field) -> tuple[int, int, int]:
    for at, extension in enumerate(field):
        if extension in sample:
            return (*sample[extension], at)
    return 0, -1, 0
