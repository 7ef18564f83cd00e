"""Reads photographs with label maps and captions, and holds some out.

A sample is `000012.webp`, `000012.png` (class ids, 255 = ignore) and `000012.json` (`source`, `id`, `captions`) of a
tar shard; `classes.json` beside the shards names the ids.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from lexiseg.data.labelled.labels import read_ids
from lexiseg.data.pictures.headers import header
from lexiseg.data.storage.images import read_rgb
from lexiseg.data.storage.pixels import Pixels, file_hash, keep_pixels
from lexiseg.data.storage.shards import Shard, find_shards, parse_object
from lexiseg.errors import BadSample, DataError
from lexiseg.files import digest

__all__ = [
    "IGNORE",
    "LAST_THING",
    "THINGS_ALONE",
    "MaskedClass",
    "MaskedPhotograph",
    "MaskedSet",
    "held_out",
    "read_masked",
]

IGNORE = 255
THINGS_ALONE = "coco-train2017-things"  # the shard where all things are marked, and nothing else
LAST_THING = 90  # of COCO's ids; MSRC has things that COCO does not mark

Part = Literal["train", "held_out", "all"]

_FIELDS = (("webp",), ("png",), ("json",))


def held_out(key: str) -> bool:
    """Whether a photograph of `masks-train`, "SHARD/NUMBER", is kept out of training to choose between candidates.

    Every fifth photograph of the COCO panoptic shard; and of MSRC, whose neighbours often show the same scene, the last
    three of every fifteen.
    """
    shard, number = key.split("/")
    if shard == "coco-train2017-panoptic":
        return int(number) % 5 == 4
    return shard == "msrc-even" and int(number) % 15 >= 12


@dataclass(frozen=True)
class MaskedClass:
    """names: the class's name first, then synonyms; thing: countable, as against stuff."""

    id: int
    names: tuple[str, ...]
    thing: bool


@dataclass(frozen=True, eq=False)
class MaskedPhotograph:
    """key: "SHARD/NUMBER"; captions: none where there is no caption."""

    key: str
    captions: tuple[str, ...]
    _image: Pixels
    _labels: Pixels
    _indices: Pixels | None = None  # place in the whole list of classes -> index; None where they are the same

    def image(self) -> Pixels:
        """RGB [H, W, 3], a view."""
        return self._image

    def truth(self) -> Pixels:
        """Indices into `MaskedSet.classes` [H, W], IGNORE where it is not known."""
        return self._labels if self._indices is None else np.asarray(self._indices[self._labels])


@dataclass(frozen=True, eq=False)
class MaskedSet:
    """Photographs of one or several shards; hashes: SHA-256 of each shard, by name."""

    classes: tuple[MaskedClass, ...]
    photographs: tuple[MaskedPhotograph, ...]
    hashes: dict[str, str]


def read_masked(
    folder: Path,
    *,
    part: Part = "train",
    shards: Sequence[str] = (),
    occurring: bool = False,
    cache: Path | None = None,
) -> MaskedSet:
    """The photographs of a folder of shards, decoded; `classes.json` beside them lists the classes, in its order.

    part: by `held_out`.
    occurring: keep only the classes that occur in the shards, whatever the part.
    shards: beginnings of the names of the shards to read; none for all.
    cache: as in `sheets.read_sheets`.

    Raises `DataError` for files that are missing, cut off or of another form.
    """
    classes = _read_classes(folder / "classes.json")
    paths = [path for path in find_shards(folder) if not shards or path.name.startswith(tuple(shards))]
    if not paths:
        raise DataError(f"{folder} has no shard whose name begins with {' or '.join(shards)}")
    opened = [Shard(path, _FIELDS) for path in paths]
    hashes = {path.name: file_hash(path) for path in paths}
    for shard in opened:
        shard.check_whole()
    where = [(shard, at) for shard in opened for at in range(len(shard))]
    facts = [_facts(shard, at) for shard, at in where]
    sizes = np.array([fact.size for fact in facts], np.int64)  # height, width
    file = None if cache is None else cache / f"masked-{digest([hashes, [kind.id for kind in classes]])[:16]}.bin"
    pixels = keep_pixels(int(sizes.prod(axis=1).sum()) * 4, lambda: _decode(where, classes), file)
    photographs = _cut(pixels, facts)
    if occurring:
        classes, photographs = _occurring(classes, photographs)
    chosen = [one for one in photographs if part == "all" or held_out(one.key) == (part == "held_out")]
    if not chosen:
        raise DataError(f"{', '.join(hashes)} of {folder} hold no photographs of the part {part!r}")
    return MaskedSet(classes, tuple(chosen), hashes)


@dataclass(frozen=True)
class _Facts:
    key: str
    captions: tuple[str, ...]
    size: tuple[int, int]


def _read_classes(path: Path) -> tuple[MaskedClass, ...]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["classes"]
        return tuple(
            MaskedClass(int(one["id"]), (one["name"], *one.get("synonyms", ())), bool(one.get("thing", True)))
            for one in listed
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a list of classes with id and name: {error!r}") from error


def _facts(shard: Shard, at: int) -> _Facts:
    content = parse_object(shard.need(at, 2))
    labels = header(f"{shard.path}:{shard.key(at)}.png", io.BytesIO(shard.need(at, 1)))
    return _Facts(shard.key(at), tuple(content.get("captions") or ()), (labels.height, labels.width))


def _decode(where: Sequence[tuple[Shard, int]], classes: Sequence[MaskedClass]) -> Iterator[Pixels]:
    """RGB and labels of each photograph in turn."""
    table = np.full(256, IGNORE, np.uint8)
    table[[kind.id for kind in classes]] = np.arange(len(classes))
    for shard, at in where:
        try:
            image = np.asarray(read_rgb(shard.need(at, 0)))
            labels = table[read_ids(shard.need(at, 1), "its label map")]
        except (BadSample, DataError) as error:
            raise DataError(f"{shard.key(at)} in {shard.path} cannot be read: {error}; copy it again") from error
        if image.shape[:2] != labels.shape:
            raise DataError(f"{shard.key(at)}: the photograph is {image.shape[:2]}, its labels {labels.shape}")
        yield image
        yield labels


def _cut(pixels: Pixels, facts: Sequence[_Facts]) -> list[MaskedPhotograph]:
    photographs, start = [], 0
    for fact in facts:
        height, width = fact.size
        middle, end = start + 3 * height * width, start + 4 * height * width
        image, labels = pixels[start:middle].reshape(height, width, 3), pixels[middle:end].reshape(height, width)
        photographs.append(MaskedPhotograph(fact.key, fact.captions, image, labels))
        start = end
    return photographs


def _occurring(
    classes: Sequence[MaskedClass], photographs: Sequence[MaskedPhotograph]
) -> tuple[tuple[MaskedClass, ...], list[MaskedPhotograph]]:
    counts = sum(np.bincount(one.truth().reshape(-1), minlength=IGNORE + 1) for one in photographs)
    there = np.flatnonzero(np.asarray(counts)[: len(classes)])
    indices = np.full(IGNORE + 1, IGNORE, np.uint8)
    indices[there] = np.arange(len(there))
    return tuple(classes[int(at)] for at in there), [replace(one, _indices=indices) for one in photographs]
