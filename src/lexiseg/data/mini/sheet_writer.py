"""Writes shards of sheets, which `sheets` reads."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lexiseg import files
from lexiseg.data.storage.images import read_rgb
from lexiseg.errors import BadSample, DataError

__all__ = ["Box", "Kind", "Style", "lay_out", "photograph", "shrunk", "webp", "write_shard", "write_sheets"]

GRID = 16  # pixels: tiles start at multiples of it, so that no block of the compression holds two photographs
METHOD = 6  # of WebP: the slowest and smallest

Box = tuple[int, int, int, int]
Member = tuple[str, bytes]


@dataclass(frozen=True)
class Style:
    """width: of a sheet at most, pixels; quality: of its WebP; short_side: larger photographs are made this small."""

    width: int
    quality: int
    short_side: int | None = None


@dataclass(frozen=True)
class Kind:
    """A class: what its source calls it, its names, its photographs. boxes: of the object in each, if known."""

    label: str
    names: tuple[str, ...]
    photographs: tuple[Path, ...]
    boxes: tuple[Box, ...] = ()
    description: str | None = None


def write_sheets(path: Path, kinds: Sequence[Kind], *, source: str, style: Style) -> None:
    """A shard with a sheet for each class.

    Raises `DataError` for a photograph that cannot be read, `OutputError` where the shard cannot be written.
    """
    write_shard(path, (list(_sheet(kind, source, style)) for kind in kinds))


def write_shard(path: Path, samples: Iterable[Sequence[Member]]) -> None:
    """Numbered samples; members: (extension, content). The file is there whole, or not at all."""
    with files.atomic(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, sample in enumerate(samples):
            for extension, content in sample:
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def lay_out(sizes: Iterable[tuple[int, int]], width: int) -> list[Box]:
    """Tiles (x, y, w, h) of photographs (w, h): in rows from the top left, as many in each as fit."""
    x = y = height = 0
    tiles = []
    for w, h in sizes:
        if x + w > width:
            x, y, height = 0, y + height, 0
        tiles.append((x, y, w, h))
        x, height = x + _up(w), max(height, _up(h))
    return tiles


def webp(picture: Image.Image, quality: int) -> bytes:
    data = io.BytesIO()
    picture.save(data, "WEBP", quality=quality, method=METHOD)
    return data.getvalue()


def photograph(path: Path) -> Image.Image:
    """Raises `DataError` where it cannot be read."""
    try:
        return read_rgb(path)
    except BadSample as error:
        raise DataError(f"{path} cannot be read ({error}); unpack or copy it again") from error


def shrunk(picture: Image.Image, factor: float) -> Image.Image:
    """Made smaller by a factor below 1."""
    if factor >= 1:
        return picture
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _sheet(kind: Kind, source: str, style: Style) -> Iterator[Member]:
    pictures = []
    for path in kind.photographs:
        picture = photograph(path)
        pictures.append(shrunk(picture, (style.short_side or min(picture.size)) / min(picture.size)))
    if not pictures:
        raise DataError(f"{kind.label} of {source} has no photographs; unpack its download again")
    tiles = lay_out((picture.size for picture in pictures), style.width)
    sheet = Image.new("RGB", (max(x + w for x, _, w, _ in tiles), max(y + h for _, y, _, h in tiles)))
    for picture, (x, y, _, _) in zip(pictures, tiles, strict=True):
        sheet.paste(picture, (x, y))
    yield "webp", webp(sheet, style.quality)
    facts: dict[str, Any] = {"source": source, "class": kind.label, "names": kind.names}
    facts |= {} if kind.description is None else {"description": kind.description}
    facts |= {"count": len(tiles), "tiles": tiles}
    yield "json", json.dumps(facts | ({"boxes": kind.boxes} if kind.boxes else {}), ensure_ascii=False).encode()


def _up(side: int) -> int:
    return -(-side // GRID) * GRID
