"""Label maps that a model made fill what is unlabelled, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.labelled.dense import UNLABELLED, DenseAugmentation, Relabelling
from lexiseg.data.labelled.pseudo import PseudoLabels
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.errors import BadSample, DataError, OutputError
from lexiseg.vocabulary import Vocabulary

WORDS = Vocabulary("cat, dog, sky")
PLAIN = DenseAugmentation(crop=(2, 3), scale=(3, 2), ratio=(1, 1), flip=0, distort=False, most_of_one=1)


class Made:
    key = "folder/a"

    def image(self) -> np.ndarray:
        return np.zeros((2, 3, 3), np.uint8)

    def truth(self) -> np.ndarray:
        return np.array([[0, 1, 1], [255, 2, 1]], np.uint8)


def stored(folder: Path, labels: list[list[int]], *, classes: tuple[str, ...] = WORDS.names, ignore: int = 255) -> str:
    made = PseudoLabels(folder, classes, ignore, {"model": "a"})
    made.begin()
    path = made.path(Made.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(labels, np.uint8 if ignore == 255 else np.uint16)).save(path)
    return str(folder)


def source(pseudo_labels: str | None, **changes: object) -> DenseSource:
    settings: dict = {"relabel": Relabelling(suppressed=(1,)), "vocabulary": WORDS, "pseudo_labels": pseudo_labels}
    return DenseSource([Made()], PLAIN, **{**settings, **changes})


def test_only_unlabelled_pixels_are_filled_and_doubt_leaves_them_unlabelled(tmp_path: Path) -> None:
    _, labels = source(stored(tmp_path, [[2, 1, 255], [1, 1, 1]])).read(0)
    assert labels.tolist() == [[0, 1, UNLABELLED], [255, 2, 1]]


def test_pictures_without_labels_are_filled_too(tmp_path: Path) -> None:
    folder = stored(tmp_path, [[2, 1, 255], [1, 1, 1]])
    alone = DenseSource((), PLAIN, unlabelled=[Made()], vocabulary=WORDS, pseudo_labels=folder)
    assert alone.read(0)[1].tolist() == [[2, 1, UNLABELLED], [1, 1, 1]]


def test_the_classes_to_fill_are_those_that_are_suppressed_or_all_that_have_words() -> None:
    assert source(None).fillable == (1,)
    assert source(None, relabel=None).fillable == (0, 1, 2)
    everything = Relabelling(suppressed=(0, 1, 2, 3))
    assert source(None, relabel=everything, background=True).fillable == (0, 1, 2)


def test_sixteen_bits_hold_more_than_255_classes(tmp_path: Path) -> None:
    many = Vocabulary([f"thing {number}" for number in range(300)])
    folder = stored(tmp_path, [[299, 65535, 5], [0, 0, 0]], classes=many.names, ignore=65535)
    relabel = Relabelling(ignore=65535, suppressed=tuple(range(3)))
    _, labels = source(folder, vocabulary=many, relabel=relabel).read(0)
    assert labels[0].tolist() == [299, UNLABELLED, 5]


def test_maps_of_other_classes_sizes_or_places_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labelling\.json cannot be read"):
        source(str(tmp_path))
    with pytest.raises(DataError, match=r"3 classes \(cat, dog, sky .*the data has 4"):
        source(stored(tmp_path / "a", [[0]]), background=True)
    with pytest.raises(BadSample, match="sizes differ"):
        source(stored(tmp_path / "b", [[0]])).read(0)
    with pytest.raises(BadSample, match=r"unknown class .*holds 9"):
        source(stored(tmp_path / "c", [[0, 9, 0], [0, 0, 0]])).read(0)
    Path(tmp_path / "c" / "folder" / "a.png").unlink()
    with pytest.raises(BadSample, match="no pseudo-labels"):
        source(str(tmp_path / "c")).read(0)
    with pytest.raises(DataError, match="cannot be the name of a label map"):
        PseudoLabels(tmp_path, (), 255, {}).path("../a")


def test_maps_made_in_another_way_are_not_mixed(tmp_path: Path) -> None:
    stored(tmp_path, [[0]])
    PseudoLabels(tmp_path, WORDS.names, 255, {"model": "a"}).begin()
    with pytest.raises(OutputError, match="holds label maps of another model"):
        PseudoLabels(tmp_path, WORDS.names, 255, {"model": "b"}).begin()


def test_the_manifest_says_which_maps_were_read(tmp_path: Path) -> None:
    first, second = (stored(tmp_path / name, [[0]]) for name in "ab")
    plain = SceneLabelData(Scenes(count=2)).source().manifest()
    assert source(first).manifest() == source(second).manifest() != source(None).manifest()
    assert "pseudo_labels" not in plain
    assert SceneLabelData(Scenes(count=2)).source().classes == class_names()  # type: ignore[attr-defined]
