"""Masks come back from every form they can be stored in, and what is wrong with a file is said with its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from lexiseg.errors import DataError
from lexiseg.proposals._folder import MaskFolder

SIZE = (5, 7)
MASKS = np.random.default_rng(0).random((11, *SIZE)) < 0.4


def rle(mask: np.ndarray) -> dict[str, Any]:
    found = pycoco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_label_map_comes_back_as_it_is_stored(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 300, SIZE).astype(np.uint16)
    Image.fromarray(labels).save(tmp_path / "a.png")
    (tmp_path / "inner").mkdir()
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "inner" / "b.png")
    folder = MaskFolder.open(tmp_path)
    assert np.array_equal(folder.of("a").read(SIZE), labels)
    assert np.array_equal(folder.of("inner/b").read(SIZE), labels.astype(np.uint8))
    assert folder.beside("inner/b") == [tmp_path / "inner" / "b.png"]


def test_a_folder_of_pngs_has_a_mask_each_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number, mask in enumerate(MASKS):
        Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / "a" / f"{number}.png")
    (tmp_path / "a" / "metadata.csv").write_text("0")
    stored = MaskFolder.open(tmp_path).of("a")
    assert [path.stem for path in stored.files] == [str(number) for number in range(len(MASKS))]
    assert np.array_equal(stored.read(SIZE), MASKS)


@pytest.mark.parametrize("bits", ["bool", "palette", "ones"])
def test_binary_pngs_of_any_kind_are_read(tmp_path: Path, bits: str) -> None:
    (tmp_path / "a").mkdir()
    grey = Image.fromarray(MASKS[0].astype(np.uint8))
    if bits == "palette":
        grey.putpalette([0, 0, 0, 255, 0, 0])
    (Image.fromarray(MASKS[0]) if bits == "bool" else grey).save(tmp_path / "a" / "0.png")
    assert np.array_equal(MaskFolder.open(tmp_path).of("a").read(SIZE)[0], MASKS[0])


def test_arrays_come_back(tmp_path: Path) -> None:
    soft = np.random.default_rng(2).random((3, *SIZE)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", masks=soft)
    assert np.array_equal(MaskFolder.open(tmp_path).of("a").read(SIZE), soft)


@pytest.mark.parametrize("form", ["bare", "annotations", "data set", "own"])
def test_run_lengths_come_back_as_pycocotools_wrote_them(tmp_path: Path, form: str) -> None:
    each = [rle(mask) if form == "bare" else {"segmentation": rle(mask), "image_id": 1} for mask in MASKS]
    content = each if form == "bare" else {"annotations": each}
    write_json(tmp_path / ("a.coco.json" if form == "own" else "a.json"), content)
    assert np.array_equal(MaskFolder.open(tmp_path).of("a").read(SIZE), MASKS)


def test_one_coco_file_has_the_masks_of_all_photographs(tmp_path: Path) -> None:
    images = [{"id": 4, "file_name": "inner/a.jpg"}, {"id": 9, "file_name": "b.png"}]
    annotations = [{"image_id": 9 if n < 3 else 4, "segmentation": rle(mask)} for n, mask in enumerate(MASKS)]
    path = write_json(tmp_path / "all.json", {"images": images, "annotations": annotations})
    folder = MaskFolder.open(path)
    assert np.array_equal(folder.of("b").read(SIZE), MASKS[:3])
    assert np.array_equal(folder.of("inner/a", "inner/a.jpg").read(SIZE), MASKS[3:])
    assert folder.beside("b") == [path]
    with pytest.raises(DataError, match=r"all\.json has no masks for c"):
        folder.of("c")


def test_a_photograph_without_masks_has_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", masks=np.zeros((0, *SIZE), bool))
    write_json(tmp_path / "b.json", [])
    folder = MaskFolder.open(tmp_path)
    assert folder.of("a").read(SIZE).shape == folder.of("b").read(SIZE).shape == (0, *SIZE)


def test_the_first_name_that_has_masks_counts(tmp_path: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "a.tif.png")
    Image.fromarray(np.ones(SIZE, np.uint8)).save(tmp_path / "b.regions.png")
    folder = MaskFolder.open(tmp_path)
    assert folder.of("a", "a.tif").read(SIZE).max() == 0
    assert folder.of("b", "b.jpg").read(SIZE).min() == 1


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        MaskFolder.open(tmp_path / "nowhere")
    folder = MaskFolder.open(tmp_path)
    with pytest.raises(DataError, match=r"has no masks for a; put them at a\.png"):
        folder.of("a", "a.jpg")
    assert folder.beside("a") == [tmp_path / "a.png"]


def break_png(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, SIZE, np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:55])


def colours(path: Path) -> None:
    Image.new("RGB", SIZE[::-1]).save(path)


def other_size(path: Path) -> None:
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (break_png, "broken"),
        (colours, "RGB"),
        (other_size, "3 x 4 and the photograph is 5 x 7"),
        (empty, "empty|photograph|picture"),
    ],
)
def test_a_png_that_cannot_be_used_is_named(tmp_path: Path, spoil: Any, reason: str) -> None:
    (tmp_path / "b").mkdir()
    spoil(tmp_path / "a.png")
    spoil(tmp_path / "b" / "1.png")
    folder = MaskFolder.open(tmp_path)
    with pytest.raises(DataError, match=rf"a\.png.*{reason}"):
        folder.of("a").read(SIZE)
    with pytest.raises(DataError, match=rf"1\.png.*{reason}"):
        folder.of("b").read(SIZE)


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (np.zeros(SIZE), "give numbers"),
        (np.zeros((2, 4, 4)), "4 x 4 and the photograph is 5 x 7"),
        (np.full((2, *SIZE), 2), "from 2 to 2"),
        (np.full((2, *SIZE), np.nan), "from nan"),
        (np.array(["a"]), "give numbers"),
    ],
)
def test_arrays_that_are_not_masks_are_named(tmp_path: Path, masks: np.ndarray, reason: str) -> None:
    np.savez(tmp_path / "a.npz", masks=masks)
    with pytest.raises(DataError, match=rf"a\.npz.*{reason}"):
        MaskFolder.open(tmp_path).of("a").read(SIZE)


def test_a_file_of_arrays_that_is_damaged_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    np.savez(tmp_path / "b.npz", masks=MASKS)
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:200])
    (tmp_path / "c.npz").write_bytes(b"")
    for name in "abc":
        with pytest.raises(DataError, match=rf"{name}\.npz cannot be read"):
            MaskFolder.open(tmp_path).of(name).read(SIZE)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="a has no PNG"):
        MaskFolder.open(tmp_path).of("a").read(SIZE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("3", "has no masks"),
        ('{"size": [5, 7]}', "has no masks"),
        ("[4]", "not run lengths"),
        ('[{"segmentation": [[0, 0, 3, 0, 3, 3]]}]', "polygons"),
        (json.dumps([rle(MASKS[0][:4])]), r"size \[4, 7\] and the photograph \[5, 7\]"),
        ('[{"size": [5, 7], "counts": ""}]', "for 0 pixels"),
        ('[{"size": [5, 7], "counts": [3, 4]}]', "for 7 pixels"),
        ('[{"size": [5, 7], "counts": [36, -1]}]', "not whole numbers"),
        ('[{"size": [5, 7], "counts": "é"}]', "among its run lengths"),
        ('[{"size": [5, 7], "counts": "P"}]', "cut off"),
        ('[{"size": [100000, 100000], "counts": [10000000000]}]', "size"),
    ],
)
def test_run_lengths_that_cannot_be_used_are_named(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json.*{reason}"):
        MaskFolder.open(tmp_path).of("a").read(SIZE)


@pytest.mark.parametrize("content", ["[]", '{"images": 3}', '{"images": [], "annotations": []}', "{"])
def test_a_file_that_is_not_a_coco_data_set_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "all.json").write_text(content)
    with pytest.raises(DataError, match=r"all\.json"):
        MaskFolder.open(tmp_path / "all.json")
