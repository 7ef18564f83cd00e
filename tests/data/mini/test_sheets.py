from __future__ import annotations

import numpy as np
import pytest
from photographs import LEXISEG_DATA, needs_photographs, tile_level, write_root

from lexiseg.data.mini.sheets import read_sheets
from lexiseg.errors import DataError


@pytest.mark.parametrize("cached", [False, True])
def test_tiles_are_cut_from_their_sheets(tmp_path, cached):
    folder = write_root(tmp_path / "root") / "photos-train"
    tiles = read_sheets(folder, cache=tmp_path / "cache" if cached else None)
    assert len(tiles) == 9
    assert [sheet.names for sheet in tiles.sheets] == [("cat", "tabby"), ("apple", "fruit")]
    assert list(tiles.of_sheet(0)) == list(range(6))
    assert list(tiles.of_sheet(1)) == [6, 7, 8]
    for index in range(9):
        at = index % 6
        photograph = tiles.photograph(index)
        assert photograph.shape == (64, 48 if at % 2 else 64, 3)
        assert (photograph == ((200, 40) if index < 6 else (40, 200)) + (tile_level(at),)).all()
    assert tiles.boxes[1].tolist() == [0, 0, 47, 63]  # the whole tile where nobody drew a box
    assert tiles.boxes[6].tolist() == [40, 40, 47, 63]


def test_decoded_photographs_are_kept_and_taken_again(tmp_path, monkeypatch):
    folder = write_root(tmp_path / "root") / "photos-train"
    first = read_sheets(folder, cache=tmp_path / "cache")
    monkeypatch.setattr("lexiseg.data.mini.sheets._decode", None)  # would fail if it were called
    again = read_sheets(folder, cache=tmp_path / "cache")
    assert np.array_equal(first.photograph(7), again.photograph(7))
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(TypeError):
        read_sheets(folder, cache=tmp_path / "cache")  # half a file is not taken


def test_shards_are_chosen_by_how_their_names_begin(tmp_path):
    folder = write_root(tmp_path) / "photos-train"
    assert len(read_sheets(folder, shards=("animals",))) == 9
    with pytest.raises(DataError, match="no shard whose name begins with plants"):
        read_sheets(folder, shards=("plants",))


def test_a_shard_that_ends_early_is_refused(tmp_path):
    folder = write_root(tmp_path) / "photos-train"
    path = folder / "animals-000.tar"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match="ends early"):
        read_sheets(folder)


@needs_photographs
def test_the_real_sheets_hold_what_their_readme_says():
    tiles = read_sheets(LEXISEG_DATA / "photos-train", shards=("pacs",))
    assert len(tiles) == 1238
    assert sorted(sheet.names[0] for sheet in tiles.sheets) == [
        "dog",
        "elephant",
        "giraffe",
        "guitar",
        "horse",
        "house",
    ]
    assert {tiles.photograph(index).shape for index in range(0, 1238, 50)} == {(128, 128, 3)}
