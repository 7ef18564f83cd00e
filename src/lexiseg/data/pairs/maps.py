"""Reads or computes superpixels and pseudo-masks for pictures of pairs.

They travel with the pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.data.pictures.headers import SUFFIXES
from lexiseg.data.storage.shards import Shard, find_shards
from lexiseg.errors import BadSample, DataError

__all__ = ["ComputedMaps", "FolderMaps", "MapSource", "ShardMaps", "open_maps"]

Map = NDArray[Any]  # [H, W], uint8, uint16 or int32


class MapSource(Protocol):
    """A map for each picture of a set."""

    def map(self, key: str, image: Image.Image) -> Map:
        """Whole numbers [H, W] of the picture's size; raises `BadSample` where there are none.

        key: the pair's own. image: the whole picture, before it is cropped.
        """
        ...

    def manifest(self) -> dict[str, Any]:
        """What decides the maps, as JSON."""
        ...


class ComputedMaps:
    """Maps that a function makes of the picture, in the process that prepares the sample."""

    def __init__(self, function: Callable[[Image.Image], Map], **facts: Any) -> None:
        self._function, self._facts = function, facts

    def map(self, key: str, image: Image.Image) -> Map:
        return self._function(image)

    def manifest(self) -> dict[str, Any]:
        return {"kind": "computed", "function": getattr(self._function, "__name__", "function"), **self._facts}


class FolderMaps:
    """Grey PNGs of 8 or 16 bits, in the folders of their pictures: the map of a/b.jpg is a/b.png."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def map(self, key: str, image: Image.Image) -> Map:
        path = self._root / f"{_without_suffix(key)}.png"
        if not path.is_file():
            raise BadSample("missing map", str(path))
        return _read(path)

    def manifest(self) -> dict[str, Any]:
        return {"kind": "folder", "folder": str(self._root)}


class ShardMaps:
    """The same as members of tar shards of the pairs' names; of a sample 000012, 000012.png or 000012.map.png."""

    def __init__(self, place: Path) -> None:
        self._paths = {path.stem: path for path in find_shards(place)}
        self._opened: dict[str, tuple[Shard, dict[str, int]]] = {}

    def map(self, key: str, image: Image.Image) -> Map:
        name, _, sample = key.partition("/")
        shard, rows = self._shard(name)
        found = shard.read(rows[sample], 0) if sample in rows else None
        if found is None:
            raise BadSample("missing map", f"{key} in {shard.path}")
        return _read(io.BytesIO(found[0]))

    def manifest(self) -> dict[str, Any]:
        return {"kind": "shards", "shards": {name: path.stat().st_size for name, path in self._paths.items()}}

    def _shard(self, name: str) -> tuple[Shard, dict[str, int]]:
        """A shard, and where each of its samples is in it."""
        if name not in self._paths:
            raise BadSample("missing map", f"there is no shard {name}.tar of maps")
        if name not in self._opened:
            shard = Shard(self._paths[name], (("map.png", "png"),))
            self._opened[name] = shard, {shard.keys[row]: row for row in range(len(shard))}
        return self._opened[name]


def open_maps(places: Mapping[str, str]) -> dict[str, MapSource]:
    """Stored maps by name, each in a folder of PNGs or of shards; raises `DataError` for one that is missing."""
    return {name: _open(name, Path(place).expanduser()) for name, place in places.items()}


def _open(name: str, place: Path) -> MapSource:
    if place.suffix == ".tar" or (place.is_dir() and any(place.glob("*.tar"))):
        return ShardMaps(place)
    if not place.is_dir():
        raise DataError(f"data.maps: {place} ({name}) is not a folder; give one of PNGs or of tar shards")
    return FolderMaps(place)


def _without_suffix(key: str) -> str:
    suffix = Path(key).suffix
    return key.removesuffix(suffix) if suffix.lower() in SUFFIXES else key


def _read(file: Path | io.BytesIO) -> Map:
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise BadSample("broken map", f"a {image.mode} picture in place of a grey PNG")
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadSample("broken map", str(error)) from error
