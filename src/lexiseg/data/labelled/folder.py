"""Reads photographs and label maps of one's own.

They are `images/`, `masks/` and `classes.json` in a folder, or flat tar shards with a `classes.json`.

    classes.json    ["road", "car|automobile"]                          ids are places in the list, from 0
                    {"7": "road", "12": ["car", "automobile"]}          id -> name, or name and synonyms
                    {"classes": [{"id": 7, "name": "road", "synonyms": ["street"], "thing": false}], "ignore": 255}
    masks           PNGs of ids, up to 8 bits (255 is ignored) or 16 bits (65535 is)

In a shard, a sample is `KEY.jpg` (or jpeg, webp, image.png) with `KEY.png` (or mask.png). A class called "background"
stands for every pixel that belongs to no other class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lexiseg.data import finding
from lexiseg.data.finding import LeftOut, by_reason
from lexiseg.data.labelled.labels import Png
from lexiseg.data.labelled.layouts import Entry, LabelClass, Listing, Part
from lexiseg.data.labelled.official import Release
from lexiseg.data.pictures.headers import KINDS
from lexiseg.data.storage.stored import TarMember, members
from lexiseg.errors import DataError, VocabularyError
from lexiseg.words import files as words
from lexiseg.words.entry import Entry as Given

__all__ = ["FOLDER", "Folder", "Shards", "parse_classes"]

SHARD_PHOTOS = ("jpg", "jpeg", "webp", "image.png")
SHARD_MASKS = ("mask.png", "png")
IGNORE = (255, 65535)
LARGEST_ID = 65534
WITHOUT = "without a label map"
HOW_TO_WRITE = 'write a list of names, or ids with names: {"7": "road", "12": ["car", "automobile"]}'

_CLASSES = Part("classes.json", ("classes.json",))


@dataclass(frozen=True)
class Folder:
    """`masks/KEY.png` with `images/KEY.jpg` (or png, webp ...), in any case; KEY may lead into folders."""

    about: str = "images/ and masks/"
    images: int | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        places = tuple(f"images/{{key}}{suffix}" for suffix in KINDS)
        return (_CLASSES, Part("photographs", places), Part("label maps", ("masks/{key}.png",)))

    def scan(self, root: Path) -> Listing:
        for part in self.parts:
            part.need(root)
        images = root / "images"
        photos, left_out = _photographs(images)
        masks = _by_key(root / "masks", _masks(root / "masks"))
        # a photograph that is not there is named as if it were a JPEG, which it most often is
        entries = [Entry(key, photos.get(key, images / f"{key}.jpg"), Png(masks[key])) for key in sorted(masks)]
        left_out += [LeftOut(photos[key], WITHOUT) for key in photos if key not in masks]
        return dataclasses.replace(_listing(root, entries), left_out=by_reason(left_out))


@dataclass(frozen=True)
class Shards:
    """Tar files in the folder, uncompressed, each with photographs and label maps side by side."""

    about: str = "tar shards"
    images: int | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        return (_CLASSES, Part("shards", ("{key}.tar",)))

    def scan(self, root: Path) -> Listing:
        for part in self.parts:
            part.need(root)
        entries = [entry for shard in sorted(root.glob("*.tar")) for entry in _shard_entries(shard)]
        return _listing(root, entries)


FOLDER = Release(
    splits={"all": (Folder(), Shards())},
    home="your own photographs",
    obtain="put photographs in images/, PNGs of class ids under the same names in masks/, and the names of the ids in "
    "classes.json; or pack them as tar shards",
    licence="yours",
    tree="""\
classes.json            ["road", "car|automobile"] or {"7": "road", "12": ["car", "automobile"]}
images/a.jpg ...
masks/a.png ...         8-bit ids with 255 ignored, or 16-bit ids with 65535 ignored
or, in place of the two folders,
shard-000.tar ...       a.jpg, a.png, b.jpg, b.png ...""",
)


def _photographs(folder: Path) -> tuple[dict[str, Path], list[LeftOut]]:
    """The photographs by key, and the other pictures.

    Those that cannot be read here count as photographs: reading one says which package is missing.
    """
    found = finding.in_folder(folder)
    unread = [one for one in found.left_out if one.path.suffix.lower() in KINDS and one.reason != finding.HIDDEN]
    others = [one for one in found.left_out if one not in unread]
    return _by_key(folder, [one.path for one in unread]) | _by_key(folder, found.photographs), others


def _by_key(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their path below the folder without its suffix; raises `DataError` where two have the same."""
    found: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(folder).with_suffix("").as_posix()
        if found.setdefault(key, path) != path:
            raise DataError(f"{found[key]} and {path} have the same name; keep one of them")
    return found


def _masks(folder: Path) -> Iterator[Path]:
    for parent, names in finding.walk(folder):
        yield from (parent / name for name in names if name.lower().endswith(".png") and not name.startswith("."))


def _shard_entries(shard: Path) -> list[Entry]:
    samples: dict[str, dict[str, TarMember]] = {}
    for member in members(shard):
        folder, slash, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        samples.setdefault(folder + slash + stem, {})[extension.lower()] = member
    entries = []
    for key, files in samples.items():
        photo = next((files[name] for name in SHARD_PHOTOS if name in files), None)
        mask = next((files[name] for name in SHARD_MASKS if name in files), None)
        if photo and mask:
            entries.append(Entry(f"{shard.stem}/{key}", photo, Png(mask)))
        elif photo or mask:
            lacks = f"photograph ({', '.join(SHARD_PHOTOS)})" if mask else "label map (png)"
            raise DataError(f"{shard} has no {lacks} for the sample {key}; pack both into the same shard")
    return entries


def _listing(root: Path, entries: list[Entry]) -> Listing:
    classes, ignored = parse_classes(root / "classes.json")
    numbers = {label.ids["id"] for label in classes}
    void = sorted({*ignored, *IGNORE} - numbers)
    return Listing(entries, sorted(numbers), void, classes=classes, upright=True)


def parse_classes(path: Path) -> tuple[tuple[LabelClass, ...], tuple[int, ...]]:
    """The classes of a `classes.json` by id, and the ids it says to ignore; raises `DataError` for any other form."""
    try:
        found = words.read(path)
    except VocabularyError as error:
        raise DataError(f"{error}; {HOW_TO_WRITE}") from error
    if found.entries and not found.numbered:
        raise DataError(f"{path} gives {found.entries[0].name!r} no id; {HOW_TO_WRITE}")
    classes = tuple(_with_words(_label_class(*each), found.background) for each in enumerate(found.entries))
    numbers = [label.ids["id"] for label in classes]
    if not numbers or numbers[-1] > LARGEST_ID:
        raise DataError(f"{path} must give each class an id of its own, from 0 to {LARGEST_ID}; it has {numbers[-10:]}")
    if named := sorted(set(found.ignore) & set(numbers)):
        raise DataError(f"{path} ignores the id {named[0]}, which is a class; leave it out of one of the two")
    return classes, found.ignore


def _with_words(label: LabelClass, background: str | tuple[str, ...]) -> LabelClass:
    """The class called "background" has the words that the file gives for it."""
    if isinstance(background, str) or label.name.casefold() != "background":
        return label
    return dataclasses.replace(label, words=(*label.words, *background))


def _label_class(place: int, entry: Given) -> LabelClass:
    """The place in the list is the id of a class that gives none."""
    unique = {word.casefold(): word for word in reversed(entry.words)}  # the first spelling stays
    ordered = tuple(unique[key] for key in dict.fromkeys(word.casefold() for word in entry.words))
    return LabelClass(entry.name, {"id": place if entry.id is None else entry.id}, ordered, entry.thing)
