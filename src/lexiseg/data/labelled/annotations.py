"""Reads releases that keep their label maps in JSON files.

They are COCO panoptic, LVIS, and PASCAL in Detail (Pascal Context).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.data.labelled.labels import Drawn, Panoptic, stamp
from lexiseg.data.labelled.layouts import Entry, LabelClass, Listing, Part, folder
from lexiseg.errors import DataError

__all__ = ["CocoPanoptic", "Lvis", "PascalDetail"]


@dataclass(frozen=True)
class CocoPanoptic:
    """COCO panoptic: a PNG of segments for each photograph, and a JSON that gives each segment its category.

    Raw ids are category ids, 1-90 things and 92-200 stuff; 0 is unlabelled.
    """

    about: str
    photos: Part
    labels: Part
    annotations: Part
    images: int | None
    ids: str = "id"

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.annotations, self.photos, self.labels)

    def scan(self, root: Path) -> Listing:
        path = root / self.annotations.need(root)
        photos, labels = root / folder(self.photos.need(root)), root / folder(self.labels.need(root))
        mark = stamp(path, "coco panoptic")
        entries = []
        with _reading(path):
            for item in sorted(_load(path)["annotations"], key=lambda item: str(item["file_name"])):
                name = str(item["file_name"])
                categories = {int(part["id"]): int(part["category_id"]) for part in item["segments_info"]}
                key = name.rpartition(".")[0]
                entries.append(Entry(key, photos / f"{key}.jpg", Panoptic(labels / name, categories, mark)))
        return Listing(entries, range(1, 201), (0,), self.ids)


@dataclass(frozen=True)
class Lvis:
    """LVIS: polygons (or RLE) of instances on COCO photographs.

    Instances overlap in places. The larger is drawn first, so that what lies on a table is not hidden by it. LVIS
    labels only some classes in each photograph: a pixel without an instance says nothing.
    """

    about: str
    photos: Part
    annotations: Part
    images: int | None

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.annotations, self.photos)

    def scan(self, root: Path) -> Listing:
        path = root / self.annotations.need(root)
        # the photographs of one LVIS split lie in train2017 and val2017
        photos = (root / folder(self.photos.need(root))).parent
        mark = stamp(path, "lvis")
        with _reading(path):
            data = _load(path)
            shapes: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
            for shape in data["annotations"]:
                shapes[int(shape["image_id"])].append(shape)
            entries = [
                Entry(
                    str(image["id"]), photos / _coco_path(image), _drawing(path, image, shapes[int(image["id"])], mark)
                )
                for image in sorted(data["images"], key=lambda image: int(image["id"]))
            ]
            classes = tuple(map(_lvis_class, sorted(data["categories"], key=lambda category: int(category["id"]))))
            occurring = frozenset(int(shape["category_id"]) for shape in data["annotations"])
        largest = max((label.ids["id"] for label in classes), default=0)
        return Listing(entries, range(largest + 1), classes=classes, occurring=occurring)


@dataclass(frozen=True)
class PascalDetail:
    """PASCAL in Detail's trainval_merged.json: RLE masks of the 459 classes of Pascal Context, drawn in file order.

    This is what the detail API draws; it is not needed. Raw ids are those of the 459-class annotation, 0 is nothing.
    """

    about: str
    photos: Part
    annotations: Part
    phase: str  # train | val
    images: int | None

    @property
    def parts(self) -> tuple[Part, ...]:
        return (self.annotations, self.photos)

    def scan(self, root: Path) -> Listing:
        path = root / self.annotations.need(root)
        photos = root / folder(self.photos.need(root))
        mark = stamp(path, "pascal in detail")
        with _reading(path):
            data = _load(path)
            images = {int(image["image_id"]): image for image in data["images"] if image["phase"] == self.phase}
            shapes: dict[int, list[tuple[int, Any]]] = {number: [] for number in images}
            for shape in data["annos_segmentation"]:
                if int(shape["image_id"]) in shapes:
                    shapes[int(shape["image_id"])].append((int(shape["category_id"]), shape["segmentation"]))
            entries = []
            for number, image in images.items():
                key = str(image["file_name"]).rpartition(".")[0]
                size = (int(image["height"]), int(image["width"]))
                label = Drawn(path, key, size, shapes[number], mark)
                entries.append(Entry(key, photos / str(image["file_name"]), label))
        return Listing(sorted(entries, key=lambda entry: entry.key), range(460))


class _reading:
    """Turns what a malformed annotation file causes into a `DataError` that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (KeyError, TypeError, ValueError, IndexError, AttributeError)):
            raise DataError(
                f"{self.path} is not the annotation file it should be ({error!r}); unpack the official one again"
            ) from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; copy it again") from error
    data = json.loads(content)
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    return data


def _coco_path(image: Mapping[str, Any]) -> str:
    """ "val2017/000000397133.jpg" of an image's address, since LVIS gives no file name."""
    return "/".join(str(image["coco_url"]).split("/")[-2:])


def _drawing(path: Path, image: Mapping[str, Any], shapes: Sequence[Mapping[str, Any]], mark: str) -> Drawn:
    largest_first = sorted(shapes, key=lambda shape: -float(shape["area"]))
    drawn = [(int(shape["category_id"]), shape["segmentation"]) for shape in largest_first]
    return Drawn(path, str(image["id"]), (int(image["height"]), int(image["width"])), drawn, mark)


def _lvis_class(category: Mapping[str, Any]) -> LabelClass:
    # "bow_(decorative_ribbons)": the underscores go, what distinguishes two bows stays
    words = tuple(dict.fromkeys(str(word).replace("_", " ") for word in [category["name"], *category["synonyms"]]))
    return LabelClass(words[0], {"id": int(category["id"])}, words, thing=True)
