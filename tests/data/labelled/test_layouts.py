from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.labelled.layouts import Pairs, Part, folder, missing, read_list, under, walk
from lexiseg.data.storage.stored import TarMember
from lexiseg.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def pairs(**changes: object) -> Pairs:
    photos = Part("photographs", ("photos/{key}.jpg", "images/{key}.jpg"))
    labels = Part("label maps", ("labels/{key}_ids.png",))
    return Pairs(**{"about": "a test", "photos": photos, "labels": labels, "images": None, **changes})


def test_photograph_and_label_map_share_a_name_and_are_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "photos/b.jpg", "photos/a/c.jpg", "labels/b_ids.png", "labels/a/c_ids.png", "labels/notes.txt")
    entries = pairs().scan(tmp_path).entries
    assert [entry.key for entry in entries] == ["a/c", "b"]
    assert [entry.photo for entry in entries] == [tmp_path / "photos/a/c.jpg", tmp_path / "photos/b.jpg"]
    assert [entry.label.file for entry in entries] == [tmp_path / "labels/a/c_ids.png", tmp_path / "labels/b_ids.png"]


def test_nothing_is_read_when_a_split_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "labels/a_ids.png")  # neither is a picture
    assert len(pairs().scan(tmp_path).entries) == 1


def test_a_list_decides_which_and_in_which_order(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg", "labels/a_ids.png")
    (tmp_path / "val.txt").write_text("b\n\na 1\n")
    layout = pairs(listing=Part("list", ("val.txt",)))
    assert [entry.key for entry in layout.scan(tmp_path).entries] == ["b", "a"]
    assert [part.what for part in layout.parts] == ["list", "photographs", "label maps"]


def test_names_pass_over_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "photos/1.jpg", "labels/1_ids.png", "labels/copy1_ids.png")
    assert [entry.key for entry in pairs(names=r"\d+").scan(tmp_path).entries] == ["1"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "labels/1_ids.png", "elsewhere/2_ids.png")
    (tmp_path / "labels" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "labels" / "loop").symlink_to(tmp_path / "labels")
    assert sorted(walk(tmp_path, "labels/{key}_ids.png")) == ["1", "more/2"]


def test_the_first_place_that_is_not_empty_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "labels/a_ids.png")
    (tmp_path / "photos").mkdir()
    assert pairs().scan(tmp_path).entries[0].photo == tmp_path / "images/a.jpg"


def test_an_absent_part_is_named_with_its_official_place(tmp_path: Path) -> None:
    touch(tmp_path, "labels/a_ids.png")
    with pytest.raises(DataError, match=r"has no photographs, which should be at photos$"):
        pairs().scan(tmp_path)


def test_dot_files_and_dot_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "labels/a.png", "labels/._a.png", "labels/.git/b.png", "labels/.png")
    assert list(walk(tmp_path, "labels/{key}.png")) == ["a"]


def test_folders_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.png")
    (tmp_path / "labels").symlink_to(tmp_path / "elsewhere")
    assert list(walk(tmp_path, "labels/{key}.png")) == ["a"]


def test_missing_files_are_found_without_asking_for_each(tmp_path: Path) -> None:
    touch(tmp_path, "here/a.png")
    files = [tmp_path / "here/a.png", tmp_path / "here/b.png", tmp_path / "gone/a.png"]
    assert missing([*files, TarMember(tmp_path / "x.tar", "a.png", 0, 1)]) == files[1:]


def test_under_puts_the_first_base_first() -> None:
    assert under(("a", ""), "x/{key}.png", "y") == ("a/x/{key}.png", "a/y", "x/{key}.png", "y")


def test_folder_is_what_a_person_looks_for() -> None:
    assert [folder(place) for place in ("a/b/{key}.png", "a/list.txt", "{key}.tar")] == ["a/b", "a/list.txt", "."]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "is empty"), (b"a\nb\na\n", "names a twice"), (b"\xff\xfe\x00", "cannot be read")],
)
def test_a_bad_list_is_an_error_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "val.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"val\.txt {message}"):
        read_list(tmp_path / "val.txt")


def test_a_list_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("a\n", encoding="utf-8-sig")
    assert read_list(tmp_path / "val.txt") == ["a"]


def test_label_maps_are_read_as_the_layout_says(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg")
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.array([[3]], np.uint8)).save(tmp_path / "labels" / "a_ids.png")
    assert pairs().scan(tmp_path).entries[0].label.ids().tolist() == [[3]]
