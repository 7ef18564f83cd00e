"""Packs the miniature set from official downloads.

    photos-train   tiny-imagenet (train), Caltech-101, PACS and Grocery Store, as sheets
    photos-val     tiny-imagenet (val), as sheets
    masks-train    COCO train2017 and the even photographs of MSRC v2, with label maps
    masks-val      the odd photographs of MSRC v2, never to be trained on
    words          WordNet's noun synsets, as tiny-imagenet lists them

A file that is there is whole, and stays: a run that was interrupted goes on with the same command.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lexiseg import files
from lexiseg.data.mini import label_maps
from lexiseg.data.mini.sheet_writer import Box, Kind, Style, write_shard, write_sheets
from lexiseg.data.mini.sources import locate
from lexiseg.errors import DataError

__all__ = ["Prepared", "prepare_mini"]

TINY_TRAIN, TINY_VAL = Style(1280, 50), Style(640, 66)
CALTECH, PACS, GROCERY = Style(4096, 62, 128), Style(4096, 68, 128), Style(2048, 66, 128)
SHEETS = 50  # of tiny-imagenet in a shard
MOST = 400  # photographs of a class of Caltech-101
PACS_CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house")  # half of its persons are the same faces

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Files below the root: what was made now, and what was there."""

    made: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A file below the root, and what writes it."""

    path: str
    write: Callable[[Path], None]


def prepare_mini(
    root: Path, folders: Sequence[Path], *, only: Sequence[str] = (), progress: Progress | None = None
) -> Prepared:
    """Packs what the downloads below `folders` hold into `root`.

    only: names of sources to take, see `mini_sources.SOURCES`; none for all.
    progress: called with the files done and their number.

    Raises `DataError` that lists what is missing before anything is written, or names a file that cannot be read;
    `OutputError` where the root cannot be written.
    """
    every = [part for name, place in locate(folders, only).items() for part in _PARTS[name](place)]
    parts = {part.path: part for part in every}  # two sources write the same list of classes
    made, kept = [], []
    for done, part in enumerate(parts.values(), start=1):
        if (root / part.path).is_file():
            kept.append(part.path)
        else:
            part.write(root / part.path)
            made.append(part.path)
        if progress is not None:
            progress(done, len(parts))
    return Prepared(tuple(made), tuple(kept))


def _tiny_imagenet(place: Path) -> Iterator[_Part]:
    labels = sorted((place / "wnids.txt").read_text(encoding="utf-8").split())
    names = dict(line.split("\t") for line in _lines(place / "words.txt"))
    for number, start in enumerate(range(0, len(labels), SHEETS)):
        chosen = labels[start : start + SHEETS]

        def train(path: Path, chosen: list[str] = chosen) -> None:
            kinds = [_tiny_train(place, label, names[label]) for label in chosen]
            write_sheets(path, kinds, source="tiny-imagenet-200/train", style=TINY_TRAIN)

        yield _Part(f"photos-train/tiny-imagenet-train-{number:03d}.tar", train)

    def val(path: Path) -> None:
        rows: dict[str, list[list[str]]] = defaultdict(list)
        listed = (line.split("\t") for line in _lines(place / "val" / "val_annotations.txt"))
        for row in sorted(listed, key=lambda row: _number(row[0])):
            rows[row[1]].append(row)
        kinds = [_boxed(place / "val" / "images", label, names[label], rows[label], first=2) for label in labels]
        write_sheets(path, kinds, source="tiny-imagenet-200/val", style=TINY_VAL)

    def words(path: Path) -> None:
        files.write_text(path, "".join(f"{line.partition(chr(9))[2]}\n" for line in _lines(place / "words.txt")))

    yield _Part("photos-val/tiny-imagenet-val-000.tar", val)
    yield _Part("words/wordnet-noun-synsets.txt", words)


def _tiny_train(place: Path, label: str, names: str) -> Kind:
    folder = place / "train" / label
    rows = sorted((line.split("\t") for line in _lines(folder / f"{label}_boxes.txt")), key=lambda row: _number(row[0]))
    return _boxed(folder / "images", label, names, rows, first=1)


def _boxed(folder: Path, label: str, names: str, rows: Sequence[Sequence[str]], *, first: int) -> Kind:
    """first: the column of a row that a box begins at."""
    boxes: list[Box] = []
    for row in rows:
        left, top, right, bottom = map(int, row[first : first + 4])
        boxes.append((left, top, right, bottom))
    return Kind(label, tuple(names.split(", ")), tuple(folder / row[0] for row in rows), tuple(boxes))


def _caltech101(place: Path) -> Iterator[_Part]:
    def write(path: Path) -> None:
        named: dict[str, list[str]] = _contents("contents.json")["caltech101"]
        kinds = [
            Kind(label, tuple(names), tuple(_pictures(place / label)[:MOST])) for label, names in sorted(named.items())
        ]
        write_sheets(path, kinds, source="caltech101", style=CALTECH)

    yield _Part("photos-train/caltech101-000.tar", write)


def _pacs(place: Path) -> Iterator[_Part]:
    def write(path: Path) -> None:
        kinds = [Kind(label, (label,), tuple(_pictures(place / "photo" / label))) for label in PACS_CLASSES]
        write_sheets(path, kinds, source="pacs/photo", style=PACS)

    yield _Part("photos-train/pacs-photo-000.tar", write)


def _grocery(place: Path) -> Iterator[_Part]:
    def write(path: Path) -> None:
        photographs: dict[int, list[Path]] = defaultdict(list)
        for line in _lines(place / "dataset" / "train.txt"):
            name, number, *_ = line.split(", ")
            photographs[int(number)].append(place / "dataset" / name)
        with (place / "dataset" / "classes.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["Class ID (int)"]))
        kinds = [_product(place / "dataset", row, photographs[int(row["Class ID (int)"])]) for row in rows]
        write_sheets(path, kinds, source="grocery-store/train", style=GROCERY)

    yield _Part("photos-train/grocery-train-000.tar", write)


def _product(folder: Path, row: dict[str, str], photographs: list[Path]) -> Kind:
    """Its name, the coarser one, and both together where the name does not say what it is: "granny smith apple"."""
    label = row["Class Name (str)"].strip()
    fine, coarse = (text.strip().replace("-", " ").lower() for text in (label, row["Coarse Class Name (str)"]))
    names = [fine, coarse, fine if coarse in fine else f"{fine} {coarse}"]
    text = (folder / row["Product Description Path (str)"].strip().lstrip("/")).read_text(encoding="utf-8").strip()
    return Kind(label, tuple(dict.fromkeys(names)), tuple(sorted(photographs)), description=text)


def _coco(place: Path) -> Iterator[_Part]:
    for kind, samples in (("panoptic", label_maps.panoptic), ("things", label_maps.things)):

        def write(path: Path, kind: str = kind, samples: Any = samples) -> None:
            write_shard(path, samples(place, _contents("contents.json")[f"coco-{kind}"]))

        yield _Part(f"masks-train/coco-train2017-{kind}.tar", write)
    yield _Part("masks-train/classes.json", _write_classes)


def _msrc(place: Path) -> Iterator[_Part]:
    for half, folder in (("even", "masks-train"), ("odd", "masks-val")):

        def write(path: Path, half: str = half) -> None:
            classes = _contents("classes.json")["classes"]
            ids = {one["msrc"]: int(one["id"]) for one in classes if "msrc" in one}
            write_shard(path, label_maps.msrc(place, half, ids))

        yield _Part(f"{folder}/msrc-{half}.tar", write)
        yield _Part(f"{folder}/classes.json", _write_classes)


_PARTS: dict[str, Callable[[Path], Iterator[_Part]]] = {
    "tiny-imagenet": _tiny_imagenet,
    "caltech101": _caltech101,
    "pacs": _pacs,
    "grocery": _grocery,
    "coco": _coco,
    "msrc": _msrc,
}


def _contents(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_asset(name))
    return content


def _write_classes(path: Path) -> None:
    files.write_text(path, _asset("classes.json"))


def _asset(name: str) -> str:
    return (resources.files("lexiseg") / "assets" / "_mini-data" / name).read_text(encoding="utf-8")


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise DataError(f"{folder} holds no pictures; unpack the download again")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); unpack the download again") from error


def _number(name: str) -> int:
    """12 of "val_12.JPEG"."""
    return int(name.rpartition("_")[2].partition(".")[0])
