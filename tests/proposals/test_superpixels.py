"""Superpixels are scikit-image's, of each picture alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.segmentation import felzenszwalb

from lexiseg.errors import SettingError
from lexiseg.proposals import superpixels


def test_the_masks_are_those_of_scikit_image() -> None:
    rgb = np.ascontiguousarray(astronaut()[:80, 100:200])
    config = superpixels.Config(scale=100, sigma=0.5, min_size=30, short_side=None)
    found = superpixels.load(config).propose(torch.from_numpy(rgb).permute(2, 0, 1)[None])
    wanted = felzenszwalb(rgb, scale=100, sigma=0.5, min_size=30)
    assert found.masks.shape[1] == wanted.max() + 1 > 3
    assert np.array_equal(found.masks[0].float().argmax(0).numpy(), wanted)
    assert np.array_equal(superpixels.superpixels(rgb, config), wanted)


def test_pictures_with_fewer_superpixels_have_fewer_valid_masks() -> None:
    images = torch.zeros(2, 3, 40, 40, dtype=torch.uint8)
    images[0, :, :20] = 255
    found = superpixels.load(superpixels.Config(short_side=40)).propose(images)
    assert found.valid.sum(dim=1).tolist() == [2, 1]


def test_a_picture_is_scaled_to_its_short_side_first() -> None:
    images = torch.from_numpy(astronaut()).permute(2, 0, 1)[None, :, :300, :450]
    found = superpixels.load(superpixels.Config(short_side=60)).propose(images)
    assert found.masks.shape[-2:] == (60, 90)
    assert found.of_image(0, (300, 450)).shape[1:] == (300, 450)


def test_a_narrow_strip_is_not_enlarged_beyond_a_few_squares() -> None:
    strip = torch.randint(0, 256, (1, 3, 1, 900), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = superpixels.load(superpixels.Config(short_side=30)).propose(strip)
    height, width = found.masks.shape[-2:]
    assert height * width <= 1.1 * 4 * 30**2
    assert found.valid.all()


@pytest.mark.parametrize("wrong", [{"scale": -1}, {"sigma": float("nan")}, {"min_size": 0}, {"short_side": 0}])
def test_a_mistake_is_a_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="must be"):
        superpixels.Config(**wrong)  # type: ignore[arg-type]
