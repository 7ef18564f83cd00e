"""Masks without words at every pixel, as a picture, and in files that come back."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from skimage.color import deltaE_ciede2000, rgb2lab
from torch.nn import functional

import lexiseg
from lexiseg.errors import DataError, OutputError, SettingError, UnknownName
from lexiseg.formats import origin
from lexiseg.inference.regions import Proposing, Regions
from lexiseg.proposals._folder import MaskFolder
from lexiseg.proposals._proposals import Proposals
from methods.shelf import doubles

from .fakes import flag, predictor

SIZE = (24, 30)


@pytest.fixture(autouse=True)
def _doubles() -> Iterator[None]:
    with doubles():
        yield


def photo(height: int = 50, width: int = 61) -> np.ndarray:
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(2)) * 255
    return functional.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0).byte().numpy()


def of_masks(masks: np.ndarray, **more: Any) -> Regions:
    return Regions.of(Proposals.of_weights(torch.from_numpy(masks)[None]), SIZE, SIZE, **more)


def random_masks(count: int = 9) -> np.ndarray:
    """Boxes that overlap."""
    random = np.random.default_rng(0)
    masks = np.zeros((count, *SIZE), bool)
    for mask in masks:
        top, left = random.integers(0, 20, 2)
        mask[top : top + random.integers(2, 12), left : left + random.integers(2, 12)] = True
    return masks


def test_of_masks_that_overlap_the_smallest_is_on_top() -> None:
    masks = random_masks()
    found = of_masks(masks)
    expected = np.full(SIZE, 255)
    sizes = masks.sum((1, 2))
    for y, x in np.ndindex(SIZE):
        here = np.flatnonzero(masks[:, y, x])
        if len(here):
            expected[y, x] = max(here[sizes[here] == sizes[here].min()])
    assert np.array_equal(found.labels, expected)
    assert np.allclose(found.areas, masks.mean((1, 2)))
    assert found.unlabelled_area == pytest.approx(1 - masks.any(0).mean())
    assert all(np.array_equal(one, other) for one, other in zip(found.masks(), masks, strict=True))
    assert len(found) == 9
    assert "9 masks" in repr(found)


def test_parts_of_a_coarse_grid_leave_no_gaps_where_three_meet() -> None:
    labels = torch.tensor([[[0, 0, 1], [2, 0, 1], [2, 2, 3]]])
    found = Regions.of(Proposals.of_labels(labels), (90, 90), (90, 90))
    assert found.unlabelled_area == 0
    assert np.array_equal(found.labels[15::30, 15::30], labels[0])
    assert any(mask.sum() for mask in found.masks())


def test_masks_that_are_not_valid_are_left_out() -> None:
    proposals = Proposals.of_labels(torch.tensor([[[0, 2], [2, 2]], [[1, 1], [1, 1]]]))
    first = Proposals(proposals.masks[:1], proposals.valid[:1])
    found = Regions.of(first, (8, 8), (8, 8))
    assert len(found) == 2
    assert set(np.unique(found.labels)) == {0, 1}
    none = Regions.of(Proposals.of_weights(torch.zeros(1, 1, 4, 4)), (8, 8), (8, 8))
    assert len(none) == 0
    assert none.unlabelled_area == 1
    assert none.overlay(flag(8, 8)).size == (8, 8)


def test_a_grid_that_ends_beyond_the_picture_is_not_stretched() -> None:
    labels = torch.tensor([[[0, 0], [1, 1]]])
    found = Regions.of(Proposals.of_labels(labels, covers=(32, 32)), (40, 40), (20, 20))
    # the parts meet at row 16 of the 20 that the network saw
    assert (found.labels[:32] == 0).all()
    assert (found.labels[32:] == 1).all()


def test_regions_that_touch_have_colours_that_differ() -> None:
    random = np.random.default_rng(1)
    points = random.random((60, 2)) * SIZE
    places = np.stack(np.mgrid[: SIZE[0], : SIZE[1]], -1)[:, :, None] - points
    labels = np.unique(np.square(places).sum(-1).argmin(-1), return_inverse=True)[1].reshape(SIZE)
    found = Regions.of(Proposals.of_labels(torch.from_numpy(labels)[None]), SIZE, SIZE)
    lab = rgb2lab(found.colours[None])[0]
    pairs = [(labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])]
    for one, other in pairs:
        apart = one != other
        assert deltaE_ciede2000(lab[one[apart]], lab[other[apart]]).min() >= 18
    picture = np.asarray(found.overlay(alpha=1.0))
    assert picture.shape == (*SIZE, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_an_overlay_lies_on_the_photograph() -> None:
    found = lexiseg.load("masked/tiny", device="cpu").regions(photo())
    picture = found.overlay()
    assert picture.size == (61, 50)
    assert not np.array_equal(np.asarray(picture), np.asarray(found.overlay(np.zeros_like(photo()))))
    with pytest.raises(SettingError, match="alpha is 2"):
        found.overlay(alpha=2)


@pytest.mark.parametrize("name", ["masked/tiny", "regions/tiny"])
@pytest.mark.parametrize("size", [None, (40, 40)])
def test_a_model_shows_the_masks_of_its_embedding(name: str, size: tuple[int, int] | None) -> None:
    model = lexiseg.load(name, device="cpu", dtype="fp32", size=size)
    found = model.regions(photo())
    ((_, view),) = model.embed(photo()).views
    expected = view.proposals.of_image(0, size or (50, 61))
    expected = functional.interpolate(expected[None], (50, 61), mode="bilinear")[0] > 0.5
    got = torch.from_numpy(np.stack([*found.masks()]))
    assert got.shape == expected.shape
    assert (got != expected).float().mean() < 0.02
    assert found.model == name
    assert found.settings["model"] == name


def test_a_model_without_masks_says_what_has_some() -> None:
    with pytest.raises(SettingError, match=r"colours labels places, not masks.*selective_search"):
        predictor().regions(flag())


def test_masks_of_several_windows_are_refused() -> None:
    with pytest.raises(SettingError, match="in 4 windows; set window=none"):
        lexiseg.load("masked/tiny", device="cpu", window=32, stride=32).regions(photo(64, 64))


def test_a_proposer_shows_its_masks_and_says_how_they_were_made() -> None:
    found = Proposing.load("superpixels", {"sigma": 0, "scale": 50, "short_side": None}).regions(flag())
    assert len(found) == 4
    assert found.unlabelled_area == 0
    for column, row in ((5, 5), (30, 5), (30, 40), (60, 5)):
        part = found.labels == found.labels[row, column]
        assert np.array_equal(part, (flag() == flag()[row, column]).all(2))
    assert found.settings == {
        "model": "superpixels",
        "config": {"scale": 50.0, "sigma": 0.0, "min_size": 224, "short_side": None},
    }
    with pytest.raises(UnknownName, match="proposer"):
        Proposing.load("superpixel")
    with pytest.raises(UnknownName, match="setting"):
        Proposing.load("superpixels", {"k": 3})


@pytest.mark.parametrize("name", ["kmeans", "superpixels", "selective_search", "contours"])
def test_every_proposer_takes_any_picture(name: str) -> None:
    changes = {"features": "colours", "side": 8} if name == "kmeans" else {}
    proposing = Proposing.load(name, changes)
    for height, width in ((1, 1), (1, 40), (33, 2)):
        found = proposing.regions(photo()[:height, :width])
        assert found.labels.shape == (height, width)
        assert len(found) >= 1


def test_a_saved_label_map_comes_back_as_masks(tmp_path: Path) -> None:
    found = of_masks(random_masks(), model="boxes")
    found.save(tmp_path / "a.png", made_with="abc")
    assert np.array_equal(MaskFolder.open(tmp_path).of("a").read(SIZE), found.labels)
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == "P"
    assert picture.convert("RGB").getpixel((0, 0)) == (112, 112, 112)  # none is there
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["model"] == "boxes"
    assert [row["label"] for row in facts["regions"]] == list(range(9))
    assert np.allclose([row["area"] for row in facts["regions"]], found.areas)
    for row in facts["regions"]:
        y, x = np.argwhere(found.labels == row["label"])[0]
        assert "#" + bytes(picture.convert("RGB").getpixel((int(x), int(y)))).hex() == row["colour"]
    told = origin.of(tmp_path / "a.png")
    assert told is not None
    assert told.made_with == "abc"
    with pytest.raises(DataError, match="not a saved segmentation"):
        lexiseg.Segmentation.load(tmp_path / "a.png")


def test_all_masks_come_back_whole(tmp_path: Path) -> None:
    masks = random_masks()
    found = of_masks(masks)
    found.save(tmp_path / "a.npz", made_with="abc")
    assert np.array_equal(MaskFolder.open(tmp_path).of("a").read(SIZE), masks)
    assert origin.of(tmp_path / "a.npz") is not None
    (tmp_path / "b.json").write_text(json.dumps(found.to_coco("b.jpg")))
    assert np.array_equal(MaskFolder.open(tmp_path).of("b").read(SIZE), masks)
    assert np.array_equal(MaskFolder.open(tmp_path / "b.json").of("b").read(SIZE), masks)
    none = of_masks(np.zeros((1, *SIZE), bool))
    none.save(tmp_path / "c.npz")
    assert MaskFolder.open(tmp_path).of("c").read(SIZE).shape == (0, *SIZE)
    with pytest.raises(OutputError, match=r"saved as \.png or \.npz"):
        found.save(tmp_path / "a.jpg")


def test_pycocotools_loads_the_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = random_masks()
    (tmp_path / "a.json").write_text(json.dumps(of_masks(masks).to_coco("a.jpg")))
    data = COCO(tmp_path / "a.json")
    capsys.readouterr()
    assert np.array_equal(np.stack([data.annToMask(one) for one in data.loadAnns(data.getAnnIds())]), masks)


def test_more_than_255_masks_have_16_bits(tmp_path: Path) -> None:
    labels = torch.arange(300).view(1, 15, 20)
    found = Regions.of(Proposals.of_labels(labels), (15, 20), (15, 20))
    assert found.labels.dtype == np.uint16
    assert np.array_equal(found.labels, labels[0])
    found.save(tmp_path / "a.png")
    assert np.array_equal(MaskFolder.open(tmp_path).of("a").read((15, 20)), found.labels)
    buffer = io.BytesIO()
    found.overlay(flag(15, 20)).save(buffer, "PNG")
    assert buffer.tell() > 0
