"""Counts what the photographs and label maps of a split hold.

It reads every one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lexiseg.data.labelled.labels import Ids
from lexiseg.data.labelled.samples import IdTable, Sample
from lexiseg.errors import DataError

__all__ = ["ClassShare", "Contents", "FileShare", "Progress", "look"]

Progress = Callable[[int, int], None]  # files done, and how many there are
WORST = 5  # files that are named


@dataclass(frozen=True)
class ClassShare:
    """share: of all pixels that are scored, 0-1. maps: the label maps that have the class."""

    name: str
    share: float
    maps: int


@dataclass(frozen=True)
class FileShare:
    """unscored: the share of its pixels that cannot be scored, 0-1.
    problem: why none can, in words; empty for pixels that are ignored.
    """

    key: str
    unscored: float
    problem: str = ""


@dataclass(frozen=True)
class Contents:
    """samples: photographs with a label map.
    maps: label maps that can be read.
    smallest, largest: (height, width) of theirs, by area; None where there is none.
    unscored: the share of their pixels that is not scored, 0-1.
    classes: the scored ones in order, those of no pixel too.
    ids: label maps by each raw id in them.
    unlisted: the raw ids that the class list lacks.
    broken: samples that cannot be scored at all.
    worst: the samples with the most pixels that cannot be scored.
    """

    samples: int
    maps: int
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    unscored: float
    classes: tuple[ClassShare, ...]
    ids: dict[int, int]
    unlisted: tuple[int, ...]
    broken: int
    worst: tuple[FileShare, ...]


@dataclass(frozen=True)
class _Looked:
    """One sample. size: of its label map; None where that cannot be read. pixels: by raw id."""

    key: str
    size: tuple[int, int] | None
    pixels: dict[int, int]
    problem: str = ""

    def by_class(self, table: IdTable) -> Counter[int | None]:
        """Pixels by class; None is what is not scored."""
        found: Counter[int | None] = Counter()
        for number, count in self.pixels.items():
            found[table.index(number) if table.has(number) else None] += count
        return found

    def lost(self, table: IdTable) -> FileShare:
        if self.problem:
            return FileShare(self.key, 1.0, self.problem)
        found = self.by_class(table)
        return FileShare(self.key, found[None] / max(1, found.total()))


def look(samples: Sequence[Sample], names: Sequence[str], root: Path, progress: Progress | None = None) -> Contents:
    """names: the scored classes, by their index in the samples' table. root: problems name paths below it."""
    looked = []
    with ThreadPoolExecutor() as pool:
        for one in pool.map(lambda sample: _look(sample, root), samples):
            looked.append(one)
            if progress is not None:
                progress(len(looked), len(samples))
    return _summed(looked, samples[0].table, names)


def _look(sample: Sample, root: Path) -> _Looked:
    size, pixels = None, {}
    try:
        ids = sample.label.ids()
        size, pixels = (ids.shape[0], ids.shape[1]), _counted(ids)
        sample.read()
    except DataError as error:
        return _Looked(sample.key, size, pixels, " ".join(str(error).replace(f"{root}/", "").split()))
    return _Looked(sample.key, size, pixels)


def _counted(ids: Ids) -> dict[int, int]:
    found, counts = np.unique(ids, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _summed(looked: Sequence[_Looked], table: IdTable, names: Sequence[str]) -> Contents:
    ids, pixels, maps = Counter[int](), Counter[int | None](), Counter[int | None]()
    for one in looked:
        found = one.by_class(table)
        ids.update(one.pixels.keys())
        pixels.update(found)
        maps.update(found.keys())
    sizes = sorted((one.size for one in looked if one.size), key=lambda size: size[0] * size[1])
    scored = max(1, pixels.total() - pixels[None])
    files = [file for one in looked if (file := one.lost(table)).unscored]
    return Contents(
        samples=len(looked),
        maps=len(sizes),
        smallest=sizes[0] if sizes else None,
        largest=sizes[-1] if sizes else None,
        unscored=pixels[None] / max(1, pixels.total()),
        classes=tuple(ClassShare(name, pixels[place] / scored, maps[place]) for place, name in enumerate(names)),
        ids=dict(sorted(ids.items())),
        unlisted=tuple(number for number in sorted(ids) if not table.has(number)),
        broken=sum(bool(one.problem) for one in looked),
        worst=tuple(sorted(files, key=lambda file: -file.unscored)[:WORST]),
    )
