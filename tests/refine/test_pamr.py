"""PAMR against a loop over pixels, and what must hold of any average over neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexiseg.errors import ImageError, SettingError
from lexiseg.refine.pamr import Config, pamr

from .exact import photograph, soft_maps


def by_loops(
    masks: np.ndarray, rgb: np.ndarray, iterations: int, dilations: tuple[int, ...], contrast: str
) -> np.ndarray:
    """The three formulas as they stand, one pixel after the other."""
    height, width = rgb.shape[:2]
    image = rgb / 255.0
    steps = [(d * y, d * x) for d in dilations for y in (-1, 0, 1) for x in (-1, 0, 1)]
    for _ in range(iterations):
        flown = np.zeros_like(masks)
        for row in range(height):
            for column in range(width):
                around = [(min(max(row + y, 0), height - 1), min(max(column + x, 0), width - 1)) for y, x in steps]
                deviation = np.std([image[place] for place in around], axis=0, ddof=1)
                scale = (deviation**2 if contrast == "paper" else 0.1 * deviation) + 1e-8
                others = [place for place, step in zip(around, steps, strict=True) if step != (0, 0)]
                like = [-(np.abs(image[row, column] - image[place]) / scale).mean() for place in others]
                share = np.exp(like) / np.exp(like).sum()
                flown[:, row, column] = sum(s * masks[:, y, x] for s, (y, x) in zip(share, others, strict=True))
        masks = flown
    return masks


@pytest.mark.parametrize("contrast", ["released", "paper"])
def test_every_pixel_is_what_a_loop_finds(contrast):
    rgb = photograph("coffee", 14)[:11]
    masks = soft_maps(photograph("coffee", 14), 3, cells=4)[:, :11]
    expected = by_loops(masks, rgb, 3, (1, 2, 5), contrast)
    found = pamr(torch.from_numpy(masks), rgb, config=Config(3, (1, 2, 5), contrast))
    assert np.allclose(found, expected, atol=2e-5)


def test_the_defaults_are_the_authors():
    assert Config() == Config(10, (1, 2, 4, 8, 12, 24), "released")


def test_a_picture_of_one_colour_leaves_the_mean_of_the_neighbours():
    grey = np.full((9, 9, 3), 80, np.uint8)
    masks = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0))
    found = pamr(masks, grey, config=Config(1, (1,)))
    window = masks[:, 3:6, 3:6]
    assert torch.allclose(found[:, 4, 4], (window.sum((1, 2)) - masks[:, 4, 4]) / 8)


def test_what_sums_to_one_still_does_and_stays_between_its_bounds():
    rgb = photograph("astronaut", 40)
    masks = torch.from_numpy(soft_maps(rgb, 5)).float()
    found = pamr(masks, rgb)
    assert torch.allclose(found.sum(0), torch.ones(40, 40), atol=1e-4)
    assert (found.amax((1, 2)) <= masks.amax((1, 2)) + 1e-5).all()
    assert (found.amin((1, 2)) >= masks.amin((1, 2)) - 1e-5).all()


def test_each_channel_is_refined_by_itself():
    rgb = photograph("chelsea", 30)
    masks = torch.from_numpy(soft_maps(rgb, 4)).float()
    assert torch.allclose(pamr(masks, rgb)[2:3], pamr(masks[2:3], rgb), atol=1e-6)


def test_the_released_form_does_not_see_the_contrast():
    dim = photograph("coffee", 30) // 4
    masks = torch.from_numpy(soft_maps(dim, 3)).float()
    assert torch.allclose(pamr(masks, dim * 4), pamr(masks, dim), atol=1e-4)
    assert not torch.allclose(
        pamr(masks, dim * 4, config=Config(contrast="paper")),
        pamr(masks, dim, config=Config(contrast="paper")),
        atol=1e-2,
    )


def test_masks_flow_up_to_edges_and_not_across():
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, 16:] = 255
    mask = torch.zeros(1, 32, 32)
    mask[:, :, :13] = 1  # three columns short of the edge
    found = pamr(mask, halves)[0]
    assert found[:, 14].min() > 0.5
    assert found[:, 17:].max() < 0.1


def test_sizes_that_differ_are_an_error():
    with pytest.raises(ImageError, match="do not fit an image of 8 x 9"):
        pamr(torch.rand(2, 9, 8), np.zeros((8, 9, 3), np.uint8))


@pytest.mark.parametrize("change", [{"iterations": 0}, {"dilations": ()}, {"dilations": (0,)}, {"contrast": "none"}])
def test_settings_that_mean_nothing_are_errors(change):
    with pytest.raises(SettingError, match=next(iter(change))):
        Config(**change)
