"""Lists where the miniature set's photographs come from.

Nothing of them ships with lexiseg: their owners give them out, each on terms of its own, most for research.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.errors import DataError, UnknownName

__all__ = ["SOURCES", "Source", "locate"]

DEEPEST = 2  # folders below one that is given, in which a download is looked for


@dataclass(frozen=True)
class Source:
    """A download. needs: what must be there, below the folder that it unpacks to.

    owner: who gives it out, and under what name. terms: as they are stated. gives: what is made of it.
    """

    name: str
    needs: tuple[str, ...]
    owner: str
    terms: str
    gives: str

    def missing(self, folder: Path) -> list[str]:
        return [need for need in self.needs if not (folder / need).exists()]


SOURCES = (
    Source(
        "tiny-imagenet",
        ("words.txt", "wnids.txt", "train", "val/val_annotations.txt", "val/images"),
        "tiny-imagenet-200 of Stanford's course CS231n",
        "ImageNet's: non-commercial research and education",
        "photos-train, photos-val, words",
    ),
    Source(
        "caltech101",
        ("accordion", "airplanes", "yin_yang"),
        "Caltech-101 of CaltechDATA (doi 10.22002/D1.20086), its folder 101_ObjectCategories",
        "as its record states; the photographs are from the web",
        "photos-train",
    ),
    Source(
        "pacs",
        ("photo/dog", "photo/elephant", "photo/giraffe", "photo/guitar", "photo/horse", "photo/house"),
        "PACS of Li et al. (ICCV 2017), its folder photo",
        "none stated",
        "photos-train",
    ),
    Source(
        "grocery",
        ("dataset/classes.csv", "dataset/train.txt", "dataset/train"),
        "the Grocery Store Dataset of Klasson et al. (WACV 2019), its repository",
        "MIT",
        "photos-train",
    ),
    Source(
        "coco",
        (
            "train2017",
            "annotations/instances_train2017.json",
            "annotations/captions_train2017.json",
            "annotations/panoptic_train2017.json",
            "annotations/panoptic_train2017",
        ),
        "COCO 2017 of the COCO consortium: train images, train/val annotations, panoptic train/val annotations",
        "annotations CC BY 4.0; each photograph has the licence of its author on Flickr",
        "masks-train",
    ),
    Source(
        "msrc",
        ("Images/1_1_s.bmp", "GroundTruth/1_1_s_GT.bmp"),
        "the MSRC v2 pixel-wise labelled image database of Microsoft Research Cambridge",
        "research; no licence stated",
        "masks-train, masks-val",
    ),
)


def locate(folders: Sequence[Path], wanted: Sequence[str] = ()) -> dict[str, Path]:
    """Where each source lies: in one of the folders, or up to two folders below one.

    wanted: names of sources; none for all.

    Raises `UnknownName` for a source that does not exist, and `DataError` that lists all that is missing.
    """
    known = {source.name: source for source in SOURCES}
    for name in wanted:
        if name not in known:
            raise UnknownName("source of the miniature set", name, known)
    places = list(dict.fromkeys(place for folder in folders for place in _below(folder, DEEPEST)))
    found, problems = {}, []
    for source in (known[name] for name in wanted or known):
        place = min(places, key=lambda place: len(source.missing(place)), default=None)
        missing = list(source.needs) if place is None else source.missing(place)
        if place is None or missing:
            problems.append(_problem(source, place, missing))
        else:
            found[source.name] = place
    if problems:
        raise DataError(
            f"{len(problems)} of {len(found) + len(problems)} sources are not complete: {'; '.join(problems)}. "
            "Give the folders they lie in with --from, or name those to take with --only"
        )
    return found


def _problem(source: Source, place: Path | None, missing: Sequence[str]) -> str:
    if place is None or len(missing) == len(source.needs):
        return f"{source.name} ({source.owner}) is nowhere; it holds {', '.join(source.needs)}"
    return f"{source.name} ({source.owner}) in {place} lacks {', '.join(missing)}"


def _below(folder: Path, depth: int) -> Iterable[Path]:
    if not folder.is_dir():
        raise DataError(f"there is no folder at {folder}; give the folder that the downloads were unpacked in")
    return _walk(folder, depth)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir():
                yield from _walk(inner, depth - 1)
