"""`lexiseg data prepare`: what it needs, what it says is missing, what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.data.mini.prepare import PACS_CLASSES
from lexiseg.data.mini.sources import SOURCES


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    for label in PACS_CLASSES:
        folder = tmp_path / "downloads" / "PACS" / "photo" / label
        folder.mkdir(parents=True)
        Image.new("RGB", (227, 227), "red").save(folder / "056_0001.jpg")
    return tmp_path / "downloads"


def test_without_downloads_it_says_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "mini"]) == 0
    said = capsys.readouterr().out
    for source in SOURCES:
        assert source.owner in said
        assert source.terms in said
    assert main(["data", "prepare", "mini", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [source.name for source in SOURCES]


def test_a_part_is_packed_and_kept(downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    command = ["data", "prepare", "mini", "--root", str(root), "--from", str(downloads), "--only", "pacs", "--json"]
    for made, kept in ((["photos-train/pacs-photo-000.tar"], []), ([], ["photos-train/pacs-photo-000.tar"])):
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out) == {"root": str(root), "made": made, "kept": kept}


def test_what_is_missing_is_one_line_and_exit_code_1(
    downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert main(["data", "prepare", "mini", "--root", str(root), "--from", str(downloads)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: 5 of 6 sources are not complete: tiny-imagenet (")
    assert not root.exists()
    assert main(["data", "prepare", "mini", "--from", str(tmp_path / "nowhere")]) == 1
    assert main(["data", "prepare", "maxi", "--from", str(downloads)]) == 1
    assert "choose from mini" in capsys.readouterr().err
