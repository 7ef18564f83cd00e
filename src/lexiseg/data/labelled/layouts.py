"""Describes how official downloads lie on disk.

It tells which photograph belongs to which label map, without converting anything.

A `Layout` lists a split as `Entry` pairs and reads none of them. Most releases are a `Pairs`: two folders whose files
have the same name, and perhaps a file that lists the names. `official.py` has one value for each release;
`annotations.py` has the releases that keep their label maps in a JSON file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lexiseg.data import finding
from lexiseg.data.labelled.labels import Label, MatSbd, Png
from lexiseg.data.storage.stored import File
from lexiseg.errors import DataError

__all__ = ["Entry", "LabelClass", "Layout", "Listing", "Pairs", "Part", "VocWithSbd", "missing", "under"]


@dataclass(frozen=True)
class LabelClass:
    """A class as a release knows it.

    ids: its raw id; a release with several kinds of files has one for each, by the name of the kind.
    words: what it may be called in a prompt; empty for its name alone.
    thing: whether it is countable; None where the source does not say.
    """

    name: str
    ids: dict[str, int]
    words: tuple[str, ...] = ()
    thing: bool | None = None


@dataclass(frozen=True, eq=False)
class Entry:
    key: str
    photo: File
    label: Label


@dataclass(frozen=True, eq=False)
class Listing:
    """A split as it lies on disk.

    legal: raw ids that may occur; those of no class, and not in `void`, are "everything else".
    void: raw ids that mean "do not score this pixel".
    ids: which of a class's ids these files use.
    classes: what the release itself says its classes are; empty where a file of `benchmarks/classes` says it.
    occurring: raw ids that occur in the split; None where only the label maps tell.
    left_out: what else lies there and is not used, counted by reason; empty for nothing.
    """

    entries: Sequence[Entry]
    legal: Collection[int]
    void: Collection[int] = ()
    ids: str = "id"
    classes: tuple[LabelClass, ...] = ()
    occurring: frozenset[int] | None = None
    upright: bool = False  # photographs are turned as their EXIF says
    left_out: str = ""


@dataclass(frozen=True)
class Part:
    """One thing a layout is made of, and the places below the root where it may lie, the official one first.

    A place is a file, or with "{key}" in it a folder of files whose names end alike.
    """

    what: str
    places: tuple[str, ...]

    def find(self, root: Path) -> str | None:
        """The first place that exists and is not empty."""
        return next((place for place in self.places if _exists(root, place)), None)

    def need(self, root: Path) -> str:
        """As `find`; raises `DataError` where there is none."""
        place = self.find(root)
        if place is None:
            raise DataError(f"{root} has no {self.what}, which should be at {folder(self.places[0])}")
        return place


class Layout(Protocol):
    """about: in a few words; images: how many the complete split has, None where any number is right."""

    @property
    def about(self) -> str: ...
    @property
    def images(self) -> int | None: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...

    def scan(self, root: Path) -> Listing:
        """The split below `root`; raises `DataError` where a part is missing. Single files may be missing."""
        ...


@dataclass(frozen=True)
class Pairs:
    """Photographs and label maps under the same names.

    listing: the file with one name a line; without it every label map counts, sorted by name.
    names: a pattern that names must match in full, to pass over other files in the same folder.
    read: how a label map is stored; largest: the largest raw id.
    """

    about: str
    photos: Part
    labels: Part
    images: int | None
    listing: Part | None = None
    names: str = ".+"
    read: Callable[[File], Label] = Png
    largest: int = 254
    void: tuple[int, ...] = ()
    ids: str = "id"

    @property
    def parts(self) -> tuple[Part, ...]:
        return tuple(part for part in (self.listing, self.photos, self.labels) if part)

    def scan(self, root: Path) -> Listing:
        labels = self.labels.need(root)
        keys = self._keys(root, labels) if self.listing is None else read_list(root / self.listing.need(root))
        photos = self.photos.need(root)
        entries = [
            Entry(key, root / photos.replace("{key}", key), self.read(root / labels.replace("{key}", key)))
            for key in keys
        ]
        return Listing(entries, range(self.largest + 1), self.void, self.ids)

    def _keys(self, root: Path, place: str) -> Sequence[str]:
        return sorted(key for key in walk(root, place) if re.fullmatch(self.names, key))


@dataclass(frozen=True)
class VocWithSbd:
    """Pascal VOC's training images and those of the Semantic Boundaries Dataset, without VOC's validation images.

    This is the list known as trainaug, 10,582 images, made of the two official downloads. Where VOC has a label map
    of its own, it is taken: SBD's have no void border.
    """

    about: str
    photos: Part
    labels: Part
    sbd_labels: Part
    train: Part
    val: Part
    sbd_train: Part
    sbd_val: Part
    images: int | None = 10582

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.train, self.val, self.sbd_train, self.sbd_val, self.photos, self.labels, self.sbd_labels)

    def scan(self, root: Path) -> Listing:
        lists = (self.train, self.val, self.sbd_train, self.sbd_val)
        train, val, sbd_train, sbd_val = (read_list(root / part.need(root)) for part in lists)
        photos, labels = self.photos.need(root), self.labels.need(root)
        sbd_labels = self.sbd_labels.need(root)
        entries = [Entry(key, _at(root, photos, key), Png(_at(root, labels, key))) for key in train]
        more = sorted({*sbd_train, *sbd_val} - {*train, *val})
        entries += [Entry(key, _at(root, photos, key), MatSbd(_at(root, sbd_labels, key))) for key in more]
        return Listing(entries, range(21), (255,))


def under(bases: tuple[str, ...], *patterns: str) -> tuple[str, ...]:
    """Each pattern below each base, the first base first; "" is the root itself."""
    return tuple(f"{base}/{pattern}" if base else pattern for base in bases for pattern in patterns)


def missing(files: Sequence[File]) -> list[Path]:
    """Those that do not exist; each folder is listed once. Members of tars exist."""
    paths = [file for file in files if isinstance(file, Path)]
    there: dict[Path, set[str]] = {}
    for place in {path.parent for path in paths}:
        there[place] = {entry.name for entry in os.scandir(place)} if place.is_dir() else set()
    return [path for path in paths if path.name not in there[path.parent]]


def folder(place: str) -> str:
    """What a person looks for: the folder of a pattern, or the file."""
    return place.partition("{key}")[0].rpartition("/")[0] or "." if "{key}" in place else place


def walk(root: Path, place: str, *, any_case: bool = False) -> Iterator[str]:
    """The keys of the files that a pattern matches, in no order; dot files are left out.

    They may lead into folders, except where the pattern has none of its own: the root may hold anything.
    any_case: whether "a.JPG" matches a pattern that ends in ".jpg".
    """
    before, _, suffix = place.partition("{key}")
    base = root / before
    if not base.is_dir():
        return
    for parent, names in finding.walk(base):
        inside = parent.relative_to(base).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for name in names:
            ends = name.lower().endswith(suffix.lower()) if any_case else name.endswith(suffix)
            if ends and not name.startswith(".") and len(name) > len(suffix):
                yield prefix + name[: -len(suffix)]
        if not before:
            return


def read_list(path: Path) -> list[str]:
    """The first word of each line; raises `DataError` for a file that is not text, is empty or names one twice."""
    try:
        keys = [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; unpack it again") from error
    if not keys:
        raise DataError(f"{path} is empty; it should have one name a line, unpack it again")
    if len(set(keys)) < len(keys):
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise DataError(f"{path} names {twice} twice; unpack it again")
    return keys


def _exists(root: Path, place: str) -> bool:
    if "{key}" not in place:
        return (root / place).is_file()
    return next(walk(root, place, any_case=True), None) is not None


def _at(root: Path, place: str, key: str) -> Path:
    return root / place.replace("{key}", key)
