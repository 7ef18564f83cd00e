"""Reads the miniature set's label maps from official files."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.data.labelled.labels import Drawn, Panoptic, open_picture, stamp
from lexiseg.data.mini.sheet_writer import photograph, shrunk, webp
from lexiseg.errors import DataError

__all__ = ["msrc", "panoptic", "things"]

IGNORE = 255
COCO_SIDE, COCO_QUALITY = 480, 78  # pixels of the long side, and of WebP
MSRC_QUALITY = {"even": 80, "odd": 84}
# colours of MSRC v2's label maps (its readme); black is void
MSRC_COLOURS = {
    "building": (128, 0, 0), "grass": (0, 128, 0), "tree": (128, 128, 0), "cow": (0, 0, 128), "horse": (128, 0, 128),
    "sheep": (0, 128, 128), "sky": (128, 128, 128), "mountain": (64, 0, 0), "aeroplane": (192, 0, 0),
    "water": (64, 128, 0), "face": (192, 128, 0), "car": (64, 0, 128), "bicycle": (192, 0, 128),
    "flower": (64, 128, 128), "sign": (192, 128, 128), "bird": (0, 64, 0), "book": (128, 64, 0), "chair": (0, 192, 0),
    "road": (128, 64, 128), "cat": (0, 192, 128), "dog": (128, 192, 128), "body": (64, 64, 0), "boat": (192, 64, 0),
}  # fmt: skip
MSRC_COPIES = {"9_10_s", "9_15_s"}  # of 1_26_s and 1_27_s
MSRC_FACES = 6  # the series that is photographs of Caltech-101
MSRC_LEFT_OUT = "horse"  # three photographs

Sample = list[tuple[str, bytes]]
Ids = NDArray[np.uint8]


def panoptic(folder: Path, chosen: Sequence[int]) -> Iterator[Sample]:
    """Things and stuff of the COCO photographs with the ids `chosen`; a class's id is COCO's."""
    path = folder / "annotations" / "panoptic_train2017.json"
    described = {int(one["image_id"]): one for one in _load(path)["annotations"]}
    mark = stamp(path, "coco panoptic")
    for number in chosen:
        one = _need(described, number, path)
        categories = {int(part["id"]): int(part["category_id"]) for part in one["segments_info"]}
        ids = Panoptic(path.with_suffix("") / str(one["file_name"]), categories, mark).ids()
        yield _coco(folder, number, ids, {"kind": "panoptic", "captions": []})


def things(folder: Path, chosen: Sequence[int]) -> Iterator[Sample]:
    """The 80 things alone: the larger are drawn first, crowds like the others; with captions and licence."""
    path, captions = (folder / "annotations" / f"{kind}_train2017.json" for kind in ("instances", "captions"))
    content, wanted = _load(path), set(chosen)
    images = {int(image["id"]): image for image in content["images"] if int(image["id"]) in wanted}
    shapes: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for shape in content["annotations"]:
        if int(shape["image_id"]) in wanted:
            shapes[int(shape["image_id"])].append(shape)
    texts: dict[int, list[str]] = defaultdict(list)
    for one in _load(captions)["annotations"]:
        texts[int(one["image_id"])].append(str(one["caption"]).strip())
    mark = stamp(path, "coco instances")
    for number in chosen:
        image = _need(images, number, path)
        largest_first = sorted(shapes[number], key=lambda shape: -float(shape["area"]))
        drawn = [(int(shape["category_id"]), shape["segmentation"]) for shape in largest_first]
        ids = Drawn(path, str(number), (int(image["height"]), int(image["width"])), drawn, mark).ids()
        facts = {"kind": "things", "flickr_licence_id": int(image["license"]), "captions": texts[number]}
        yield _coco(folder, number, ids, facts)


def msrc(folder: Path, half: str, ids_of: Mapping[str, int]) -> Iterator[Sample]:
    """The photographs N_M_s of MSRC v2 whose M is `half`, "even" or "odd"; ids_of: the id of each of its classes."""
    keys = [path.name.removesuffix("_GT.bmp") for path in (folder / "GroundTruth").glob("*_s_GT.bmp")]
    keys = [key for key in keys if key not in MSRC_COPIES and _place(key)[0] != MSRC_FACES]
    for key in sorted((key for key in keys if _place(key)[1] % 2 == (half == "odd")), key=_place):
        path = folder / "GroundTruth" / f"{key}_GT.bmp"
        names = _named(path)
        if (names == list(MSRC_COLOURS).index(MSRC_LEFT_OUT)).any():
            continue
        table = np.array([*(ids_of[name] for name in MSRC_COLOURS), IGNORE], np.uint8)
        picture = photograph(folder / "Images" / f"{key}.bmp")
        facts = {"source": "msrc-v2", "id": key, "kind": "semantic"}
        yield _sample(picture, table[names], facts, MSRC_QUALITY[half])


def _coco(folder: Path, number: int, ids: NDArray[Any], facts: dict[str, Any]) -> Sample:
    picture = photograph(folder / "train2017" / f"{number:012d}.jpg")
    labels = np.where(ids == 0, IGNORE, ids).astype(np.uint8)
    if labels.shape != (picture.height, picture.width):
        raise DataError(f"photograph and label map of COCO's {number} differ in size; take both from one release")
    picture = shrunk(picture, COCO_SIDE / max(picture.size))
    facts = {"source": "coco/train2017", "id": f"{number:012d}", **facts}
    return _sample(picture, labels, facts, COCO_QUALITY)


def _sample(picture: Image.Image, labels: Ids, facts: dict[str, Any], quality: int) -> Sample:
    data = io.BytesIO()
    Image.fromarray(labels).resize(picture.size, Image.Resampling.NEAREST).save(data, "PNG", optimize=True)
    text = json.dumps(facts, ensure_ascii=False)
    return [("webp", webp(picture, quality)), ("png", data.getvalue()), ("json", text.encode())]


def _named(path: Path) -> NDArray[np.int64]:
    """The place in MSRC_COLOURS of each pixel's class, the one past the end for void [H, W]."""
    rgb = np.asarray(open_picture(path).convert("RGB")).astype(np.int64)
    pixels = (rgb * (65536, 256, 1)).sum(axis=-1)
    colours = [red * 65536 + green * 256 + blue for red, green, blue in [*MSRC_COLOURS.values(), (0, 0, 0)]]
    order = np.argsort(colours)
    place: NDArray[np.int64] = order[np.searchsorted(colours, pixels, sorter=order).clip(max=len(colours) - 1)]
    strange = pixels[np.asarray(colours)[place] != pixels]
    if strange.size:
        raise DataError(f"{path} has the colour #{strange[0]:06x}, which no class of MSRC v2 has; unpack it again")
    return place


def _place(key: str) -> tuple[int, int]:
    try:
        series, number, _ = key.split("_")
        return int(series), int(number)
    except ValueError as error:
        raise DataError(f"{key}_GT.bmp is no name of MSRC v2's; give the folder of its download alone") from error


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); unpack it again") from error


def _need(described: Mapping[int, Any], number: int, path: Path) -> Any:
    if number not in described:
        raise DataError(f"{path} says nothing of photograph {number}; take the annotations of train2017")
    return described[number]
