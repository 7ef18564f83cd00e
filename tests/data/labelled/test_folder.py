from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.labelled.folder import Folder, Shards, parse_classes
from lexiseg.data.labelled.labels import open_picture
from lexiseg.data.photographs import Photograph
from lexiseg.errors import DataError, ImageError


def encoded(array: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


PHOTO = encoded(np.zeros((2, 3, 3), np.uint8), "JPEG")
MASK = encoded(np.array([[7, 12, 255], [7, 7, 7]], np.uint8), "PNG")


def write(root: Path, files: dict[str, bytes], classes: Any = ("a",)) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    root.mkdir(exist_ok=True)
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def pack(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def read(root: Path, classes: Any) -> list[tuple[int, tuple[str, ...], bool | None]]:
    (root / "classes.json").write_text(json.dumps(classes))
    return [(label.ids["id"], label.words, label.thing) for label in parse_classes(root / "classes.json")[0]]


def test_a_list_numbers_its_classes_from_zero(tmp_path: Path) -> None:
    expected = [(0, ("road",), None), (1, ("car", "automobile"), None), (2, ("sky", "heaven"), None)]
    assert read(tmp_path, ["road", "car|automobile", ["sky", "heaven"]]) == expected
    assert read(tmp_path, {"classes": ["road", "car|automobile", "sky|heaven"]}) == expected


def test_a_mapping_names_sparse_ids_in_any_order(tmp_path: Path) -> None:
    expected = [(7, ("road",), None), (12, ("car", "automobile"), None)]
    assert read(tmp_path, {"12": ["car", "automobile"], "7": "road"}) == expected


def test_objects_have_ids_synonyms_and_flags(tmp_path: Path) -> None:
    classes = [{"id": 3, "name": "car", "synonyms": ["automobile", "Car"], "thing": True}, {"id": 1, "name": "road"}]
    assert read(tmp_path, {"ignore": 254, "classes": classes}) == [
        (1, ("road",), None),
        (3, ("car", "automobile"), True),
    ]
    assert parse_classes(tmp_path / "classes.json")[1] == (254,)


def test_names_with_ids_and_a_list_of_ignored_ids_are_understood(tmp_path: Path) -> None:
    assert read(tmp_path, {"1": "road", "2": "car"}) == [(1, ("road",), None), (2, ("car",), None)]
    assert read(tmp_path, {"road": 1, "car": 2}) == [(1, ("road",), None), (2, ("car",), None)]
    assert read(tmp_path, {"classes": {"1": "road"}, "ignore": [0, 2]}) == [(1, ("road",), None)]
    assert parse_classes(tmp_path / "classes.json")[1] == (0, 2)
    root = write(tmp_path, {"images/a.jpg": PHOTO, "masks/a.png": MASK}, {"classes": {"7": "a"}, "ignore": [0]})
    assert Folder().scan(root).void == [0, 255, 65535]


@pytest.mark.parametrize(
    "classes",
    [
        [],
        {},
        "road, car; sky",
        3,
        [""],
        [["car", 3]],
        {"x": "road"},
        {"-1": "road"},
        {"65535": "road"},
        {"1": "road", "01": "car"},
        [{"id": 1}],
        [{"synonyms": ["car"]}],
        [{"id": 1, "name": "car"}, {"name": "road"}],
        {"classes": {"road": ["street"]}},
        {"classes": ["road"], "ignore": "void"},
        {"classes": ["road", "car"], "ignore": [0]},
        ["car", {"id": 1, "name": "road"}],
    ],
)
def test_any_other_class_list_is_an_error_that_names_the_file(tmp_path: Path, classes: Any) -> None:
    with pytest.raises(DataError, match=r"classes\.json"):
        read(tmp_path, classes)


def test_a_class_list_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text("road, car")
    with pytest.raises(DataError, match=r"classes\.json: this is not JSON"):
        parse_classes(tmp_path / "classes.json")


def test_a_folder_pairs_photographs_of_any_kind_with_masks(tmp_path: Path) -> None:
    files = {"images/a.JPG": PHOTO, "images/sub/b.webp": PHOTO, "masks/a.png": MASK, "masks/sub/b.png": MASK}
    root = write(tmp_path, {**files, "images/without mask.jpg": PHOTO})
    listing = Folder().scan(root)
    assert [(entry.key, entry.photo) for entry in listing.entries] == [
        ("a", root / "images/a.JPG"),
        ("sub/b", root / "images/sub/b.webp"),
    ]
    assert listing.upright


def test_suffixes_count_in_any_case_in_both_folders(tmp_path: Path) -> None:
    root = write(tmp_path, {"images/a.Jpg": PHOTO, "images/b.WebP": PHOTO, "masks/a.PNG": MASK, "masks/b.Png": MASK})
    entries = Folder().scan(root).entries
    assert [entry.photo.name for entry in entries] == ["a.Jpg", "b.WebP"]
    assert [entry.label.file.name for entry in entries] == ["a.PNG", "b.Png"]
    assert all(part.find(root) for part in Folder().parts)


def test_what_is_not_used_is_counted(tmp_path: Path) -> None:
    files = {"images/a.jpg": PHOTO, "images/b.jpg": PHOTO, "images/c.nef": b"x", "images/.d.jpg": PHOTO}
    listing = Folder().scan(write(tmp_path, {**files, "masks/a.png": MASK}))
    assert listing.left_out == "1 hidden, 1 camera raw (convert to JPEG or PNG), 1 without a label map"


def test_a_photograph_that_needs_a_package_is_found_and_reading_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lexiseg.data.pictures.headers.importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("lexiseg.data.finding.SUFFIXES", (".jpg",))
    files = {"images/a.HEIC": b"\0\0\0\x18ftypheic" + bytes(40), "images/b.heic": b"", "images/b.jpg": PHOTO}
    listing = Folder().scan(write(tmp_path, {**files, "masks/a.png": MASK, "masks/b.png": MASK}))
    assert [entry.photo.name for entry in listing.entries] == ["a.HEIC", "b.jpg"]
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        Photograph.open(listing.entries[0].photo)


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"images/a.jpg": PHOTO, "masks/a.png": MASK})
    write(tmp_path / "other", {"images/b.jpg": PHOTO, "masks/b.png": MASK})
    for kind in ("images", "masks"):
        (root / kind / "more").symlink_to(tmp_path / "other" / kind)
        (root / kind / "loop").symlink_to(root / kind)
    assert [entry.key for entry in Folder().scan(root).entries] == ["a", "more/b"]


def test_two_photographs_of_one_name_are_an_error(tmp_path: Path) -> None:
    root = write(tmp_path, {"images/a.jpg": PHOTO, "images/a.png": PHOTO, "masks/a.png": MASK})
    with pytest.raises(DataError, match="have the same name"):
        Folder().scan(root)


def test_shards_hold_the_same_as_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"images/a.jpg": PHOTO, "masks/a.png": MASK})
    shards = write(tmp_path / "shards", {})
    pack(shards / "s-000.tar", {"a.jpg": PHOTO, "a.png": MASK, "a.json": b"{}"})
    pack(shards / "s-001.tar", {"./x/b.image.png": PHOTO, "./x/b.mask.png": MASK})
    in_folder, in_shards = Folder().scan(folder), Shards().scan(shards)
    assert [entry.key for entry in in_shards.entries] == ["s-000/a", "s-001/x/b"]
    for entry in in_shards.entries:
        assert np.array_equal(entry.label.ids(), in_folder.entries[0].label.ids())
        assert open_picture(entry.photo).tobytes() == open_picture(in_folder.entries[0].photo).tobytes()
    assert (in_folder.legal, in_folder.void) == (in_shards.legal, in_shards.void)


@pytest.mark.parametrize(("files", "lacks"), [({"a.jpg": PHOTO}, "label map"), ({"a.png": MASK}, "photograph")])
def test_half_a_sample_in_a_shard_is_an_error(tmp_path: Path, files: dict[str, bytes], lacks: str) -> None:
    pack(write(tmp_path, {}) / "s.tar", files)
    with pytest.raises(DataError, match=rf"s\.tar has no {lacks}.*sample a"):
        Shards().scan(tmp_path)


def test_255_is_ignored_unless_a_class_has_that_id(tmp_path: Path) -> None:
    files = {"images/a.jpg": PHOTO, "masks/a.png": MASK}
    assert list(Folder().scan(write(tmp_path, files, {"7": "road"})).void) == [255, 65535]
    assert list(Folder().scan(write(tmp_path, files, {"255": "road"})).void) == [65535]
    given = {"classes": {"7": "road"}, "ignore": 0}
    assert list(Folder().scan(write(tmp_path, files, given)).void) == [0, 255, 65535]
