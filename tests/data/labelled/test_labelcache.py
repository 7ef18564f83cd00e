from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.labelled.labelcache import Kept
from lexiseg.data.labelled.labels import AdeObjects, Ids
from lexiseg.errors import DataError

IDS = [[0, 2978, 6655]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a_seg.png"
    write(path, IDS)
    return path


def write(path: Path, ids: list[list[int]]) -> None:
    colours = [[(number // 256 * 10, number % 256, 9) for number in row] for row in ids]
    Image.fromarray(np.array(colours, np.uint8)).save(path)


def copies(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Counted(AdeObjects):
    reads = 0

    def ids(self) -> Ids:
        Counted.reads += 1
        return super().ids()


def test_a_label_map_is_read_once_and_the_copy_is_the_same(source: Path, tmp_path: Path) -> None:
    Counted.reads = 0
    kept = Kept(Counted(source), tmp_path / "cache")
    assert [kept.ids().tolist() for _ in range(3)] == [IDS] * 3
    assert Counted.reads == 1
    assert kept.file == source
    assert len(copies(tmp_path / "cache")) == 1


def test_a_source_that_changes_is_read_again(source: Path, tmp_path: Path) -> None:
    Kept(AdeObjects(source), tmp_path / "cache").ids()
    write(source, [[1, 2, 3]])
    os.utime(source, ns=(1, 1))
    assert Kept(AdeObjects(source), tmp_path / "cache").ids().tolist() == [[1, 2, 3]]


def test_a_broken_copy_costs_time_and_nothing_else(source: Path, tmp_path: Path) -> None:
    kept = Kept(AdeObjects(source), tmp_path / "cache")
    kept.ids()
    (copy,) = copies(tmp_path / "cache")
    copy.write_bytes(copy.read_bytes()[:30])
    assert kept.ids().tolist() == IDS
    assert np.asarray(Image.open(copy)).tolist() == IDS


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert Kept(AdeObjects(source), tmp_path / "cache").ids().tolist() == IDS


def test_an_absent_source_is_still_an_error(source: Path, tmp_path: Path) -> None:
    kept = Kept(AdeObjects(source), tmp_path / "cache")
    kept.ids()
    source.unlink()
    with pytest.raises(DataError, match=r"a_seg\.png"):
        kept.ids()
