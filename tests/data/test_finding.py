"""Photographs are found under any name and link, each once, and what is left out is counted by reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lexiseg.data import finding
from lexiseg.data.finding import by_reason, find, in_folder
from lexiseg.data.pictures.headers import SUFFIXES
from lexiseg.errors import ImageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(found: finding.Found) -> list[str]:
    return [path.as_posix() for path in found.photographs]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_files_and_globs_are_found_sorted_and_once(here: Path) -> None:
    touch(here, "b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "deep/er/c.webp", ".cache/d.jpg", "x[1].jpg")
    everything = ["a.PNG", "b.jpg", "deep/er/c.webp", "x[1].jpg"]
    assert names(find(".")) == everything
    assert names(find(["b.jpg", "."])) == ["b.jpg", "a.PNG", "deep/er/c.webp", "x[1].jpg"]
    assert names(find("*.jpg")) == ["b.jpg", "x[1].jpg"]
    assert names(find("**/*.webp")) == ["deep/er/c.webp"]
    assert names(find("x[1].jpg")) == ["x[1].jpg"]
    assert names(find("notes.txt")) == ["notes.txt"]  # named: reading it says what is wrong


def test_one_photograph_under_two_spellings_is_one(here: Path) -> None:
    touch(here, "in/a.jpg")
    assert names(find(["in/a.jpg", here / "in" / "a.jpg", "./in/../in/a.jpg", "in"])) == ["in/a.jpg"]


def test_suffixes_count_in_any_case(here: Path) -> None:
    touch(here, "a.Jpg", "b.jPeG", "c.TIFF", "d.WebP")
    assert names(find(".")) == ["a.Jpg", "b.jPeG", "c.TIFF", "d.WebP"]


def test_what_is_left_out_is_counted_by_reason(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "SUFFIXES", (".jpg", ".png"))
    touch(here, "a.jpg", "b.HEIC", "sub/c.heif", "d.avif", "e.jxl", "f.NEF", "g.svg", ".h.jpg", "._a.jpg", "i.txt")
    found = find(".")
    assert names(found) == ["a.jpg"]
    assert by_reason(found.left_out) == (
        "2 HEIC (run: pip install pillow-heif), 1 hidden, 1 AVIF (run: pip install --upgrade pillow), "
        "1 JPEG XL (run: pip install pillow-jxl-plugin), 1 camera raw (convert to JPEG or PNG), "
        "1 in other formats (convert to JPEG or PNG)"
    )
    assert [one.path.as_posix() for one in found.left_out][:2] == [".h.jpg", "b.HEIC"]


def test_a_folder_of_nothing_else_says_what_it_has(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "SUFFIXES", (".jpg",))
    touch(here, "in/a.heic")
    with pytest.raises(ImageError, match=r"no photographs in in; .*left out: 1 HEIC \(run: pip install pillow-heif\)"):
        find("in")


def test_links_to_folders_are_followed_and_each_folder_comes_once(here: Path) -> None:
    touch(here, "in/z/a.jpg", "elsewhere/b.jpg", "elsewhere/inner/c.jpg")
    (here / "in" / "link").symlink_to(here / "elsewhere")
    (here / "in" / "again").symlink_to(here / "in" / "z")  # sorted before the folder's own name
    (here / "in" / "loop").symlink_to(here / "in")
    (here / "elsewhere" / "back").symlink_to(here)
    found = find("in")
    assert names(found) == ["in/link/b.jpg", "in/link/inner/c.jpg", "in/z/a.jpg"]
    assert "linked folders that are listed already" in by_reason(found.left_out)


def test_a_folder_that_is_a_link_itself_is_listed(here: Path) -> None:
    touch(here, "real/a.jpg")
    (here / "link").symlink_to("real")
    assert names(find("link")) == ["link/a.jpg"]


def test_a_link_to_a_photograph_is_a_photograph_of_its_own(here: Path) -> None:
    touch(here, "in/a.jpg")
    (here / "in" / "b.jpg").symlink_to("a.jpg")
    assert names(find("in")) == ["in/a.jpg", "in/b.jpg"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere", "there is no nowhere; check the spelling"),
        ("*.heic", "nothing matches"),
        ("void", "no photographs in void"),
        ("https://example.com/a.jpg", "https://example.com/a.jpg is a URL, and lexiseg reads local files"),
        ("a\0b", "cannot look at|there is no"),
        ("a" * 5000, "cannot look at|there is no"),
    ],
)
def test_nothing_found_is_an_error(here: Path, given: str, says: str) -> None:
    (here / "void").mkdir()
    with pytest.raises(ImageError, match=says):
        find(given)


def test_an_empty_folder_is_empty(here: Path) -> None:
    assert in_folder(here) == finding.Found(())
    assert by_reason(()) == ""


def test_an_unreadable_folder_is_an_error_that_names_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ImageError, match=r"locked: Permission denied"):
        find(here)


def test_every_suffix_that_is_read_is_one_of_a_format() -> None:
    assert {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"} <= set(SUFFIXES)
