"""The benchmark `folder`: photographs and label maps of one's own."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import official_trees as trees
import pytest
from PIL import Image

from lexiseg.benchmarks import _benchmark
from lexiseg.errors import DataError

Opens = Callable[..., _benchmark.Opened]

MASKS_VAL = Path(__file__).parents[3] / "shared" / "data" / "masks-val"
CLASSES = {"ignore": 255, "classes": [{"id": 3, "name": "road"}, {"id": 7, "name": "car"}, {"id": 9, "name": "sky"}]}


@pytest.fixture
def own(data: Path) -> Path:
    for name, ids in {"a": [[3, 3, 255]], "b": [[9, 3, 3]]}.items():
        trees.photo(data / "images" / f"{name}.jpg", ids)
        trees.png(data / "masks" / f"{name}.png", ids)
    trees.write_json(data / "classes.json", CLASSES)
    return data


def truths(opened: _benchmark.Opened) -> list[list[list[int]]]:
    return [sample.read()[1].tolist() for sample in opened.samples]


def test_classes_that_occur_are_asked_for_and_scored(own: Path, opened: Opens) -> None:
    found = opened("folder")
    assert found.names == ("road", "sky")
    assert truths(found) == [[[0, 0, 255]], [[1, 0, 0]]]
    assert found.facts["options"] == {"classes": "occurring"}


def test_all_classes_are_scored_when_asked_for(own: Path, opened: Opens) -> None:
    found = opened("folder", classes="all")
    assert found.names == ("road", "car", "sky")
    assert truths(found) == [[[0, 0, 255]], [[2, 0, 0]]]


def test_an_id_the_class_list_lacks_is_an_error(own: Path, opened: Opens) -> None:
    trees.png(own / "masks" / "a.png", [[3, 3, 4]])
    with pytest.raises(DataError, match=r"a\.png holds id 4"):
        opened("folder").samples[0].truth()


def test_sixteen_bit_masks_ignore_65535(own: Path, opened: Opens) -> None:
    trees.png(own / "masks" / "a.png", [[3, 900, 65535]])
    trees.write_json(own / "classes.json", {"3": "road", "900": "car", "9": "sky"})
    assert truths(opened("folder"))[0] == [[0, 2, 255]]


def test_a_class_called_background_is_the_background(own: Path, opened: Opens) -> None:
    trees.write_json(own / "classes.json", {"3": "background", "7": "car", "9": "sky"})
    found = opened("folder")
    assert found.vocabulary.names == ("sky",)
    assert found.names == ("sky", "background")
    assert truths(found) == [[[1, 1, 255]], [[0, 1, 1]]]


def test_synonyms_are_words_of_their_class_unless_the_first_is_asked_for(own: Path, opened: Opens) -> None:
    trees.write_json(own / "classes.json", {"3": ["road", "street"], "9": "sky"})
    assert opened("folder").vocabulary.words == (("road", "street"), ("sky",))
    assert opened("folder", wording="first").vocabulary.words == (("road",), ("sky",))


def test_masks_without_any_class_are_an_error(own: Path, opened: Opens) -> None:
    for name in ("a", "b"):
        trees.png(own / "masks" / f"{name}.png", [[255, 255, 255]])
    with pytest.raises(DataError, match="no class that occurs"):
        opened("folder")


def test_a_mask_without_photograph_is_an_error(own: Path, opened: Opens) -> None:
    (own / "images" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 photographs.*b\.jpg"):
        opened("folder")


def test_tar_shards_mean_the_same_as_the_folder(own: Path, opened: Opens, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    trees.write_json(shards / "classes.json", CLASSES)
    with tarfile.open(shards / "all.tar", "w") as tar:
        for name in ("a", "b"):
            tar.add(own / "images" / f"{name}.jpg", f"{name}.jpg")
            tar.add(own / "masks" / f"{name}.png", f"{name}.png")
    found = _benchmark.open("folder", shards, cache=False)
    assert found.layout == "tar shards"
    assert truths(found) == truths(opened("folder"))
    assert found.class_digest == opened("folder").class_digest


@pytest.mark.skipif(not MASKS_VAL.is_dir(), reason="the project's data package is not at hand")
def test_the_data_packages_msrc_photographs_open() -> None:
    found = _benchmark.open("folder", MASKS_VAL, cache=False)
    assert len(found.samples) == 278
    assert len(found.names) == 22
    image, truth = found.samples[0].read()
    raw = np.asarray(Image.open(io.BytesIO(_member(MASKS_VAL / "msrc-odd.tar", "000000.png"))))
    ids = {label["name"]: label["id"] for label in json.loads((MASKS_VAL / "classes.json").read_text())["classes"]}
    assert image.shape == (*truth.shape, 3)
    back = np.array([ids[name] for name in found.names] + [255] * (256 - len(found.names)))
    assert np.array_equal(back[truth], raw)


def _member(tar: Path, name: str) -> bytes:
    with tarfile.open(tar) as shard:
        content = shard.extractfile(name)
        assert content is not None
        return content.read()
