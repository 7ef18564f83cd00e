from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lexiseg.data.labelled.annotations import CocoPanoptic, Lvis, PascalDetail
from lexiseg.data.labelled.layouts import Part
from lexiseg.errors import DataError

PHOTOS = Part("photographs", ("val2017/{key}.jpg",))
JSON = Part("JSON", ("a.json",))

LAYOUTS = {
    "panoptic": CocoPanoptic("panoptic", PHOTOS, Part("PNGs", ("png/{key}.png",)), JSON, None),
    "lvis": Lvis("lvis", PHOTOS, JSON, None),
    "detail": PascalDetail("detail", PHOTOS, JSON, "val", None),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("val2017/1.jpg", "png/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(root: Path, content: Any) -> None:
    (root / "a.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"annotations": [{}], "images": [{}], "categories": [{}], "annos_segmentation": [{}]},
        {"annotations": 3, "images": 3, "categories": 3, "annos_segmentation": 3},
    ],
)
def test_another_json_is_an_error_that_names_it(kind: str, content: Any, root: Path) -> None:
    write(root, content)
    with pytest.raises(DataError, match=r"a\.json is not the annotation file"):
        LAYOUTS[kind].scan(root)


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("content", [b"", b'{"annotations": [', b"\xff\xfe"])
def test_a_cut_json_is_an_error_that_names_it(kind: str, content: bytes, root: Path) -> None:
    (root / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json is not the annotation file"):
        LAYOUTS[kind].scan(root)


def test_panoptic_entries_are_sorted_by_file(root: Path) -> None:
    parts = {"segments_info": [{"id": 7, "category_id": 1}]}
    write(root, {"annotations": [{"file_name": "2.png", **parts}, {"file_name": "1.png", **parts}]})
    listing = LAYOUTS["panoptic"].scan(root)
    assert [entry.key for entry in listing.entries] == ["1", "2"]
    assert [entry.photo for entry in listing.entries] == [root / "val2017/1.jpg", root / "val2017/2.jpg"]
    assert 0 in listing.void
    assert 0 not in listing.legal


def test_copies_of_label_maps_depend_on_the_json(root: Path) -> None:
    parts = {"segments_info": [{"id": 7, "category_id": 1}]}
    marks = set()
    for note in ("one", "another"):
        write(root, {"annotations": [{"file_name": "1.png", **parts}], "note": note})
        marks.add(LAYOUTS["panoptic"].scan(root).entries[0].label.fingerprint())
    assert len(marks) == 2


def test_lvis_photographs_lie_where_their_address_says(root: Path) -> None:
    image = {"height": 2, "width": 2}
    images = [
        {"id": 10, "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg", **image},
        {"id": 2, "coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg", **image},
    ]
    categories = [{"id": 4, "name": "b_(c)", "synonyms": ["b_(c)", "d_e"]}, {"id": 3, "name": "a", "synonyms": []}]
    write(root, {"images": images, "annotations": [], "categories": categories})
    listing = LAYOUTS["lvis"].scan(root)
    assert [entry.photo for entry in listing.entries] == [
        root / "val2017/000000000139.jpg",
        root / "train2017/000000000009.jpg",
    ]
    assert [(label.name, label.words, label.ids) for label in listing.classes] == [
        ("a", ("a",), {"id": 3}),
        ("b (c)", ("b (c)", "d e"), {"id": 4}),
    ]
    assert listing.occurring == frozenset()
    assert list(listing.legal) == [0, 1, 2, 3, 4]


def test_images_of_one_release_have_fingerprints_of_their_own(root: Path) -> None:
    images = [
        {"id": number, "coco_url": f"http://images.cocodataset.org/val2017/{number}.jpg", "height": 2, "width": 2}
        for number in range(3)
    ]
    write(root, {"images": images, "annotations": [], "categories": []})
    assert len({entry.label.fingerprint() for entry in LAYOUTS["lvis"].scan(root).entries}) == 3
