"""Reads sheets: all photographs of a class as one picture's tiles.

One small photograph per tar member would cost more header than picture. A sheet `000012.webp` comes with `000012.json`:
`names` (the class's name and others for it), `source`, `count`, `tiles` [[x, y, w, h], ...] and perhaps `boxes`
[[x0, y0, x1, y1], ...], one object box per tile in pixels of the tile, its last row and column included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lexiseg.data.storage.images import read_rgb
from lexiseg.data.storage.pixels import Pixels, file_hash, keep_pixels
from lexiseg.data.storage.shards import Shard, find_shards
from lexiseg.errors import BadSample, DataError
from lexiseg.files import digest

__all__ = ["Sheet", "Tiles", "read_sheets"]

_FIELDS = (("webp",), ("json",))


@dataclass(frozen=True, eq=False)
class Sheet:
    """One class. names: its name first; tiles: x, y, w, h [n, 4]; boxes: x0, y0, x1, y1 [n, 4], all if unknown."""

    key: str
    names: tuple[str, ...]
    source: str
    tiles: NDArray[np.int64]
    boxes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tiles:
    """The photographs of many sheets, in the order of the sheets.

    sheet: which sheet each is from [n]; boxes: the object's box [n, 4]; hashes: SHA-256 of each shard, by name.
    """

    sheets: tuple[Sheet, ...]
    sheet: NDArray[np.int64]
    boxes: NDArray[np.int64]
    hashes: dict[str, str]
    _pixels: Pixels
    _start: NDArray[np.int64]
    _size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sheet)

    def photograph(self, index: int) -> Pixels:
        """RGB [h, w, 3], a view."""
        height, width = self._size[index]
        start = self._start[index]
        return self._pixels[start : start + height * width * 3].reshape(height, width, 3)

    def of_sheet(self, sheet: int) -> range:
        """The photographs of a sheet."""
        first, last = np.searchsorted(self.sheet, [sheet, sheet + 1])
        return range(int(first), int(last))


def read_sheets(folder: Path, *, shards: Sequence[str] = (), cache: Path | None = None) -> Tiles:
    """The photographs of a folder of sheet shards, decoded.

    shards: beginnings of the names of the shards to read; none for all.
    cache: a folder for the decoded photographs (3 bytes a pixel), from where later runs map them; None keeps them in
        memory.

    Raises `DataError` for shards that are missing, cut off or no sheets.
    """
    paths = [path for path in find_shards(folder) if not shards or path.name.startswith(tuple(shards))]
    if not paths:
        raise DataError(f"{folder} has no shard whose name begins with {' or '.join(shards)}")
    opened = [Shard(path, _FIELDS) for path in paths]
    for shard in opened:
        shard.check_whole()
    sheets = tuple(_sheet(shard, at) for shard in opened for at in range(len(shard)))
    hashes = {path.name: file_hash(path) for path in paths}
    size = np.concatenate([sheet.tiles[:, [3, 2]] for sheet in sheets])  # height, width
    bytes_ = size.prod(axis=1) * 3
    file = None if cache is None else cache / f"sheets-{digest(hashes)[:16]}.bin"
    return Tiles(
        sheets,
        np.repeat(np.arange(len(sheets)), [len(sheet.tiles) for sheet in sheets]),
        np.concatenate([sheet.boxes for sheet in sheets]),
        hashes,
        keep_pixels(int(bytes_.sum()), lambda: _decode(opened, sheets), file),
        np.cumsum(bytes_) - bytes_,
        size,
    )


def _sheet(shard: Shard, at: int) -> Sheet:
    try:
        content = json.loads(shard.need(at, 1))
        tiles = np.asarray(content["tiles"], np.int64).reshape(-1, 4)
        whole = np.concatenate([np.zeros_like(tiles[:, :2]), tiles[:, 2:] - 1], axis=1)
        boxes = np.asarray(content["boxes"], np.int64) if "boxes" in content else whole
        return Sheet(shard.key(at), tuple(content["names"]), content["source"], tiles, boxes.reshape(len(tiles), 4))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{shard.key(at)}.json in {shard.path} does not describe a sheet: {error!r}") from error


def _decode(shards: Iterable[Shard], sheets: Sequence[Sheet]) -> Iterator[Pixels]:
    described = iter(sheets)
    for shard in shards:
        for at in range(len(shard)):
            sheet = next(described)
            try:
                picture = np.asarray(read_rgb(shard.need(at, 0)))
            except BadSample as error:
                raise DataError(f"{sheet.key}.webp in {shard.path} cannot be read: {error}; copy it again") from error
            for x, y, width, height in sheet.tiles:
                yield picture[y : y + height, x : x + width]
