"""Crops of classes: which there are, that picture and mask stay together, and what cannot be cut out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lexiseg.data.labelled.dense import DenseAugmentation, Relabelling
from lexiseg.data.labelled.descriptions import PhotographData
from lexiseg.data.labelled.regions import RegionAugmentation, RegionData, Regions, box_of
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.scene_data import ScenePairData
from lexiseg.errors import BadSample, DataError, SettingError
from lexiseg.vocabulary import Vocabulary

AS_IT_IS = RegionAugmentation(size=(6, 8), area=(1.0, 1.0), ratio=(8 / 6, 8 / 6), flip=0.0)
NAMES = ("sky", "cat", "grass")


@dataclass(frozen=True)
class Photo:
    key: str
    labels: Any

    def image(self) -> np.ndarray:
        """The colour tells the label."""
        return np.repeat(np.asarray(self.labels, np.uint8)[..., None] * 60, 3, axis=2)

    def truth(self) -> np.ndarray:
        return np.asarray(self.labels, np.uint8)


class Broken(Photo):
    def truth(self) -> np.ndarray:
        raise DataError("cut off")


def boxed(place: int, box: tuple[int, int, int, int], size: tuple[int, int] = (12, 16), rest: int = 0) -> np.ndarray:
    """A label map with a rectangle (left, top, right, bottom) of a class."""
    labels = np.full(size, rest)
    labels[box[1] : box[3], box[0] : box[2]] = place
    return labels


def source(*photos: Any, **more: Any) -> DenseSource:
    return DenseSource(photos, DenseAugmentation(), vocabulary=Vocabulary(NAMES), **more)


def test_every_class_of_every_photograph_is_a_sample() -> None:
    regions = Regions(source(Photo("a", boxed(1, (2, 3, 10, 9))), Photo("b", boxed(2, (0, 0, 4, 4)))), AS_IT_IS)
    assert [regions.key(at) for at in range(sum(regions.blocks))] == ["a#sky", "a#cat", "b#sky", "b#grass"]


def test_hidden_suppressed_and_ignored_pixels_are_no_class() -> None:
    photos = Photo("a", boxed(1, (2, 3, 10, 9), rest=255)), Photo("b", boxed(2, (0, 0, 4, 4)))
    for told in (Relabelling(hidden=(2,)), Relabelling(suppressed=(2,))):
        regions = Regions(source(*photos, relabel=told), AS_IT_IS)
        assert [regions.key(at) for at in range(sum(regions.blocks))] == ["a#cat", "b#sky"]


def test_a_sample_is_the_box_of_its_class() -> None:
    """At the size of the box nothing is resampled."""
    labels = boxed(1, (2, 3, 10, 9))
    labels[3, 2] = 2  # a corner of the box that belongs to another class
    regions = Regions(source(Photo("a", labels)), AS_IT_IS)
    sample = regions.load(1, np.random.default_rng(0))
    assert (sample["key"], int(sample["labels"])) == ("a#cat", 1)
    inside = np.ones((6, 8), bool)
    inside[0, 0] = False
    assert (sample["masks"].numpy() == inside).all()
    assert (sample["image"][0].numpy() == np.where(inside, 60, 120)).all()


def test_picture_and_mask_are_cut_and_mirrored_together() -> None:
    """Where the mask says so the colour is that of the class, at any crop; but at its borders, where pixels mix."""
    random = np.random.default_rng(0)
    shape = np.add.outer(np.arange(60), np.arange(80)) % 40 < 25
    labels = np.where(shape, 1, 2)
    regions = Regions(source(Photo("a", labels)), RegionAugmentation(size=(48, 40), flip=0.5))
    for _ in range(20):
        sample = regions.load(0, random)
        assert sample["image"].shape == (3, 48, 40)
        right = (sample["image"][0].float() - 60).abs() < 30
        assert (right == sample["masks"]).float().mean() > 0.9


def test_a_crop_is_a_part_of_the_box_as_large_as_asked() -> None:
    random, augment = np.random.default_rng(0), RegionAugmentation(area=(0.25, 0.5), ratio=(0.5, 2.0))
    shares, mirrored = [], 0
    for _ in range(200):
        geometry = augment.draw((10, 20, 110, 100), random)
        left, top, right, bottom = geometry.box
        assert 10 <= left < right <= 110
        assert 20 <= top < bottom <= 100
        assert 0.45 < (right - left) / (bottom - top) < 2.2
        shares.append((right - left) * (bottom - top) / (100 * 80))
        mirrored += geometry.mirror
    assert 0.24 < min(shares) < 0.28
    assert 0.47 < max(shares) < 0.52
    assert 60 < mirrored < 140


@pytest.mark.parametrize(
    ("box", "short"),
    [((2, 3, 10, 9), (2, 3, 10, 9)), ((2, 3, 16, 12), (2, 3, 15, 11)), ((15, 11, 16, 12), (15, 11, 16, 12))],
    ids=["inside", "at the border", "one pixel in the corner"],
)
def test_released_boxes_end_before_the_border(box: Any, short: Any) -> None:
    inside = boxed(1, box) == 1
    assert box_of(inside) == box
    assert box_of(inside, short=True) == short


def test_so_many_photographs_are_drawn_of_each_class_and_always_the_same() -> None:
    photos = [Photo(f"p{at}", boxed(1 + (at % 5 == 0), (0, 0, 4, 4))) for at in range(20)]
    regions = [Regions(source(*photos), AS_IT_IS, per_class=9, draw=draw) for draw in (0, 0, 1)]
    keys = [[each.key(at) for at in range(sum(each.blocks))] for each in regions]
    assert Counter(key.partition("#")[2] for key in keys[0]) == {"sky": 9, "cat": 9, "grass": 9}
    assert keys[0] == keys[1] != keys[2]
    assert len(set(keys[0])) < 27  # with replacement: of grass there are four photographs
    assert {key for key in keys[0] if "grass" in key} <= {f"p{at}#grass" for at in (0, 5, 10, 15)}
    assert regions[0].manifest() == regions[1].manifest() != regions[2].manifest()


def test_a_photograph_that_cannot_be_read_is_in_no_sample() -> None:
    regions = Regions(source(Photo("a", boxed(1, (0, 0, 4, 4))), Broken("b", boxed(2, (0, 0, 4, 4)))), AS_IT_IS)
    assert sum(regions.blocks) == 2
    with pytest.raises(DataError, match="no photograph has a labelled pixel"):
        Regions(source(Broken("b", boxed(2, (0, 0, 4, 4)))), AS_IT_IS)


def test_where_crops_keep_missing_the_class_its_whole_box_is_taken() -> None:
    """Two specks in opposite corners of a box: a small crop of it has neither, and all of it at 8 x 8 has none."""
    labels = boxed(1, (0, 0, 40, 40), (200, 200))
    labels[160:, 160:] = 1
    labels[40:160, :40] = labels[:40, 40:] = 0
    regions = Regions(source(Photo("a", labels)), RegionAugmentation(size=(8, 8), area=(0.08, 0.1)))
    shown = [regions.load(1, np.random.default_rng(seed))["masks"] for seed in range(30)]
    assert all(mask.any() for mask in shown)
    corners = torch.zeros(8, 8, dtype=torch.bool)
    corners[:2, :2] = corners[6:, 6:] = True
    assert any(torch.equal(mask[1:7, 1:7], corners[1:7, 1:7]) for mask in shown)
    labels[labels == 1] = 0
    labels[0, 0] = labels[199, 199] = 1
    with pytest.raises(BadSample, match="none of the 2 pixels of a class is left in its box at 8x8"):
        Regions(source(Photo("a", labels)), RegionAugmentation(size=(8, 8), area=(0.08, 0.1))).load(
            1, np.random.default_rng(0)
        )


def test_one_pixel_is_a_region() -> None:
    regions = Regions(source(Photo("a", boxed(1, (3, 3, 4, 4)))), RegionAugmentation(size=(5, 7)))
    sample = regions.load(1, np.random.default_rng(0))
    assert sample["masks"].all()
    assert (sample["image"] == 60).all()


def test_data_without_label_maps_have_no_regions(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="ScenePairData lacks"):
        RegionData(ScenePairData()).source()
    (tmp_path / "a.png").write_bytes(_png())
    with pytest.raises(DataError, match="no photograph has a labelled pixel"):
        RegionData(PhotographData((str(tmp_path),))).source()
    with pytest.raises(SettingError, match="per_class is 0"):
        RegionData(PhotographData((str(tmp_path),)), per_class=0)
    with pytest.raises(SettingError, match=r"size is \(0, 4\)"):
        RegionAugmentation(size=(0, 4))


def _png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_batches_are_stacked() -> None:
    from lexiseg.recipes.learned_prompts import TOY

    batch, _ = next(TOY.data.open(batch_size=4, seed=0, max_bad_fraction=0.0).stream(None, rank=0, world=1))
    assert batch["images"].shape == (4, 3, 32, 32)
    assert (batch["masks"].shape, batch["masks"].dtype) == ((4, 32, 32), torch.bool)
    assert (batch["labels"].shape, batch["labels"].dtype) == ((4,), torch.int64)
