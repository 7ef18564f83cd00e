"""Miniature trees of the official downloads: a few pixels each, in the folders and formats that the makers use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco
from scipy.io import savemat

Ids = list[list[int]]


def photo(path: Path, ids: Ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (len(ids[0]), len(ids)), (200, 10, 10)).save(path)


def png(path: Path, ids: Ids, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.array(ids)
    picture = Image.fromarray(array.astype(np.uint8 if array.max() <= 255 else np.uint16))
    if palette:
        picture = picture.convert("P") if picture.mode == "P" else Image.frombytes("P", picture.size, picture.tobytes())
        picture.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    picture.save(path)


def rgb(path: Path, ids: Ids, colour: Callable[[int], tuple[int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([[colour(value) for value in row] for row in ids], np.uint8)).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def voc(root: Path, ids: Ids, *, key: str = "2007_000033", split: str = "val") -> None:
    base = root / "VOCdevkit" / "VOC2012"
    photo(base / "JPEGImages" / f"{key}.jpg", ids)
    png(base / "SegmentationClass" / f"{key}.png", ids, palette=True)
    text(base / "ImageSets" / "Segmentation" / f"{split}.txt", key)


def sbd(root: Path, key: str, ids: Ids, *, lists: dict[str, list[str]]) -> None:
    base = root / "benchmark_RELEASE" / "dataset"
    for name, keys in lists.items():
        text(base / f"{name}.txt", *keys)
    (base / "cls").mkdir(parents=True, exist_ok=True)
    classes = {"Segmentation": np.array(ids, np.uint8), "Boundaries": np.zeros((20, 1)), "CategoriesPresent": [1]}
    savemat(base / "cls" / f"{key}.mat", {"GTcls": classes})
    photo(root / "VOCdevkit" / "VOC2012" / "JPEGImages" / f"{key}.jpg", ids)


def context_photo(root: Path, ids: Ids, key: str = "2008_000002") -> None:
    photo(root / "VOCdevkit" / "VOC2010" / "JPEGImages" / f"{key}.jpg", ids)
    text(root / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main" / "val.txt", key)


def context_mat(root: Path, ids: Ids, key: str = "2008_000002") -> None:
    context_photo(root, ids, key)
    (root / "trainval").mkdir(exist_ok=True)
    savemat(root / "trainval" / f"{key}.mat", {"LabelMap": np.array(ids, np.uint16)})


def context_detail(root: Path, ids: Ids, key: str = "2008_000002") -> None:
    context_photo(root, ids, key)
    array = np.array(ids)
    shapes = []
    for place, number in enumerate(np.unique(array[array > 0])):
        rle = coco.encode(np.asfortranarray(array == number, np.uint8))
        rle["counts"] = rle["counts"].decode()
        shapes.append({"id": place, "image_id": 2008000002, "category_id": int(number), "segmentation": rle})
    size = {"height": array.shape[0], "width": array.shape[1]}
    images = [
        {"image_id": 2008000002, "file_name": f"{key}.jpg", "phase": "val", **size},
        {"image_id": 2008000003, "file_name": "2008_000003.jpg", "phase": "train", **size},
    ]
    write_json(root / "trainval_merged.json", {"images": images, "annos_segmentation": shapes})


def context_png59(root: Path, ids: Ids, key: str = "2008_000002") -> None:
    context_photo(root, ids, key)
    png(root / "59_context_labels" / f"{key}.png", ids)


def context_mmseg(root: Path, ids: Ids, key: str = "2008_000002") -> None:
    context_photo(root, ids, key)
    base = root / "VOCdevkit" / "VOC2010"
    png(base / "SegmentationClassContext" / f"{key}.png", ids)
    text(base / "ImageSets" / "SegmentationContext" / "val.txt", key)


def coco_pixels(root: Path, ids: Ids, key: str = "000000000139") -> None:
    photo(root / "coco" / "val2017" / f"{key}.jpg", ids)
    png(root / "coco" / "stuffthingmaps_trainval2017" / "val2017" / f"{key}.png", ids)


def coco_panoptic(root: Path, segments: Ids, categories: dict[int, int], key: str = "000000000139") -> None:
    photo(root / "coco" / "val2017" / f"{key}.jpg", segments)
    folder = root / "coco" / "annotations"
    rgb(folder / "panoptic_val2017" / f"{key}.png", segments, lambda i: (i % 256, i // 256 % 256, i // 65536))
    parts = [{"id": segment, "category_id": category} for segment, category in categories.items()]
    item = {"file_name": f"{key}.png", "image_id": 139, "segments_info": parts}
    write_json(folder / "panoptic_val2017.json", {"annotations": [item]})


def ade150(root: Path, ids: Ids) -> None:
    base = root / "ADEChallengeData2016"
    photo(base / "images" / "validation" / "ADE_val_00000001.jpg", ids)
    png(base / "annotations" / "validation" / "ADE_val_00000001.png", ids)


def ade847(root: Path, ids: Ids) -> None:
    base = root / "ADE20K_2021_17_01" / "images" / "ADE" / "validation" / "urban" / "street"
    photo(base / "ADE_val_00000001.jpg", ids)
    rgb(base / "ADE_val_00000001_seg.png", ids, lambda i: (i // 256 * 10, i % 256, 3))


def cityscapes(root: Path, ids: Ids) -> None:
    name = "frankfurt/frankfurt_000000_000294"
    photo(root / "cityscapes" / "leftImg8bit" / "val" / f"{name}_leftImg8bit.png", ids)
    png(root / "cityscapes" / "gtFine" / "val" / f"{name}_gtFine_labelIds.png", ids)
    png(root / "cityscapes" / "gtFine" / "val" / f"{name}_gtFine_instanceIds.png", ids)


def imagenet_s(root: Path, ids: Ids) -> None:
    name = "n01440764/ILSVRC2012_val_00000293"
    photo(root / "ImageNetS919" / "validation" / f"{name}.JPEG", ids)
    rgb(root / "ImageNetS919" / "validation-segmentation" / f"{name}.png", ids, lambda i: (i % 256, i // 256, 0))


LVIS_CATEGORIES = [
    {"id": 1, "name": "aerosol_can", "synonyms": ["aerosol_can", "spray_can"]},
    {"id": 2, "name": "bow_(weapon)", "synonyms": ["bow"]},
    {"id": 3, "name": "table", "synonyms": ["table"]},
]


def lvis(root: Path, annotations: list[dict[str, Any]], *, size: tuple[int, int] = (4, 6)) -> None:
    height, width = size
    photo(root / "coco" / "val2017" / "000000397133.jpg", [[0] * width] * height)
    photo(root / "coco" / "train2017" / "000000000009.jpg", [[0] * width] * height)
    images = [
        {"id": 397133, "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg"},
        {"id": 9, "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg"},
    ]
    images = [{**image, "height": height, "width": width} for image in images]
    content = {"images": images, "annotations": annotations, "categories": LVIS_CATEGORIES}
    write_json(root / "lvis" / "lvis_v1_val.json", content)
