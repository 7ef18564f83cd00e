"""Superpixels are made of the whole picture, cropped with it, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from skimage.segmentation import felzenszwalb

from lexiseg.data.geometry import resize_labels
from lexiseg.data.opening import Workers
from lexiseg.data.pairs.descriptions import PairData
from lexiseg.data.pairs.pairs import PairSource
from lexiseg.data.pairs.superpixel_maps import Superpixels
from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import SettingError

SETTINGS: dict[str, Any] = {"scale": 60.0, "sigma": 0.5, "min_size": 30, "short_side": 60}


def picture() -> Image.Image:
    return Image.fromarray(astronaut()[:120, 100:280])


def wanted(image: Image.Image) -> np.ndarray:
    small = image.resize((90, 60), Image.Resampling.LANCZOS)
    labels = felzenszwalb(np.asarray(small), scale=60, sigma=0.5, min_size=30)
    return resize_labels(labels, (image.height, image.width))


class Calls:
    """Counts how often superpixels are made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        before = Superpixels.labels

        def labels(settings: Superpixels, rgb: Any) -> Any:
            self.number += 1
            return before(settings, rgb)

        monkeypatch.setattr(Superpixels, "labels", labels)


def test_they_are_those_of_scikit_image_on_the_scaled_picture() -> None:
    found = Superpixels(**SETTINGS).maps().map("key", picture())
    assert found.dtype == np.int32
    assert np.array_equal(found, wanted(picture()))
    assert found.max() > 5


def test_a_picture_of_the_right_size_is_not_scaled() -> None:
    image = picture().resize((90, 60))
    found = Superpixels(**SETTINGS).maps().map("key", image)
    assert np.array_equal(found, felzenszwalb(np.asarray(image), scale=60, sigma=0.5, min_size=30))
    same = Superpixels(**{**SETTINGS, "short_side": None}).maps().map("key", image)
    assert np.array_equal(found, same)


def test_they_are_made_once_where_a_folder_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    first, second = (Superpixels(**SETTINGS, cache=str(tmp_path)).maps() for _ in range(2))
    maps = [each.map(key, picture()) for each, key in ((first, "a"), (first, "b"), (second, "c"))]
    assert calls.number == 1
    assert all(np.array_equal(each, wanted(picture())) for each in maps)
    # another picture, and other settings
    first.map("a", picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    Superpixels(**{**SETTINGS, "scale": 10.0}, cache=str(tmp_path)).maps().map("a", picture())
    assert calls.number == 3
    assert len(list(tmp_path.rglob("*.png"))) == 3


def test_a_broken_file_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = Superpixels(**SETTINGS, cache=str(tmp_path)).maps()
    maps.map("a", picture())
    (kept,) = tmp_path.rglob("*.png")
    kept.write_bytes(kept.read_bytes()[:40])
    calls = Calls(monkeypatch)
    assert np.array_equal(maps.map("a", picture()), wanted(picture()))
    assert np.array_equal(maps.map("a", picture()), wanted(picture()))
    assert calls.number == 1


def test_where_they_are_kept_does_not_decide_what_they_are() -> None:
    one, other = (Superpixels(**SETTINGS, cache=cache).maps() for cache in (None, "somewhere"))
    assert one.manifest() == other.manifest() == {"kind": "superpixels", **SETTINGS}


SCENES, SMALL = Scenes(count=8, size=32), Superpixels(scale=20, sigma=0.5, min_size=16, short_side=32)
CROPS = PairAugmentation(size=16, area=(0.3, 0.6), flip=0.5)


@pytest.mark.parametrize("index", range(4))
def test_they_are_cropped_and_mirrored_with_the_picture(index: int) -> None:
    source = ScenePairData(SCENES, CROPS, superpixels=SMALL).source()
    sample = source.load(index, np.random.default_rng(index))
    image, captions = SCENES.read(index)
    random = np.random.default_rng(index)
    random.integers(len(captions))  # which caption
    labels = felzenszwalb(np.asarray(image), scale=20, sigma=0.5, min_size=16)
    assert np.array_equal(sample["superpixels"], CROPS.draw(image, random).map(labels))
    plain = ScenePairData(SCENES, CROPS).source().load(index, np.random.default_rng(index))
    assert torch.equal(sample["image"], plain["image"])


@pytest.mark.parametrize("workers", [Workers(1), Workers(1, "threads")])
def test_whoever_prepares_samples_makes_them_too(workers: Workers) -> None:
    batches = []
    for each in (Workers(), workers):
        data = ScenePairData(SCENES, CROPS, superpixels=SMALL, workers=each)
        batch, _ = next(data.open(batch_size=4, seed=0, max_bad_fraction=0).stream())
        batches.append(batch["superpixels"])
    assert batches[0].shape == (4, 16, 16)
    assert batches[0].dtype == torch.int32
    assert torch.equal(*batches)


def test_stored_maps_and_made_ones_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("an astronaut")
    data = PairData((str(tmp_path),), superpixels=Superpixels(**SETTINGS), augmentation=PairAugmentation(size=16))
    assert isinstance(data.source(), PairSource)
    assert data.source().load(0, np.random.default_rng(0))["superpixels"].shape == (16, 16)
    both = PairData((str(tmp_path),), maps={"superpixels": str(tmp_path)}, superpixels=Superpixels())
    with pytest.raises(SettingError, match="both give superpixels"):
        both.source()
    with pytest.raises(SettingError, match="turns pictures"):
        PairData(data.places, superpixels=Superpixels(), augmentation=PairAugmentation(policy="autoaugment")).source()
