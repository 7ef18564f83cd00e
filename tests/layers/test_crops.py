"""Crops against a loop over pixels that follows the order of the specification: box, fill, bicubic resize."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError
from lexiseg.layers.crops import CropRule, boxes, crops

BLACK = torch.tensor([-1.5, -1.6, -1.7])


def picture(height: int = 20, width: int = 30) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))


def blob(height: int = 20, width: int = 30) -> Tensor:
    """A mask that is not a rectangle, rows 3-11 and columns 5-16."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[3:12, 8:12] = True
    mask[6:9, 5:17] = True
    return mask


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def bicubic(image: np.ndarray, side: int) -> np.ndarray:
    """[3, H, W] -> [3, side, side] in float64: pixel centres aligned, borders repeated, no low-pass filter."""
    for axis in (1, 2):
        length = image.shape[axis]
        rows = []
        for place in range(side):
            at = (place + 0.5) * length / side - 0.5
            first = math.floor(at) - 1
            taps = [(min(max(tap, 0), length - 1), cubic(at - tap)) for tap in range(first, first + 4)]
            rows.append(sum(weight * image.take(tap, axis=axis) for tap, weight in taps))
        image = np.stack(rows, axis=axis)
    return image


@pytest.mark.parametrize("fill", ["mean", "zero", "picture"])
def test_pixels_are_cropped_filled_and_resized_in_that_order(fill) -> None:  # type: ignore[no-untyped-def]
    image, mask = picture(), blob()
    ((number, found),) = crops(image, mask[None], BLACK, CropRule(16, fill=fill))
    part = image.double().numpy()[:, 3:12, 5:17].copy()
    outside = ~mask.numpy()[3:12, 5:17]
    if fill != "picture":
        part[:, outside] = 0 if fill == "mean" else BLACK.numpy()[:, None]
    assert number == 0
    assert np.allclose(found.numpy(), bicubic(part, 16), atol=1e-5)
    assert float(found.abs().max()) > 0


def test_a_filter_is_what_torch_calls_antialias_and_matters_where_boxes_shrink() -> None:
    image, everything = picture(), torch.ones(1, 20, 30, dtype=torch.bool)
    ((_, found),) = crops(image, everything, BLACK, CropRule(8, antialias=True))
    ((_, plain),) = crops(image, everything, BLACK, CropRule(8))
    assert torch.equal(found, functional.interpolate(image[None], (8, 8), mode="bicubic", antialias=True)[0])
    assert not torch.allclose(found, plain, atol=0.1)


def test_boxes_are_tight_and_those_of_empty_masks_are_empty() -> None:
    random = np.random.default_rng(0)
    masks = random.random((20, 9, 13)) > 0.97
    masks[0], masks[1] = False, True
    for box, mask in zip(boxes(torch.from_numpy(masks)).tolist(), masks, strict=True):
        rows, columns = np.nonzero(mask)
        wanted = [0] * 4 if not len(rows) else [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        assert box == wanted


def test_a_margin_ends_where_the_picture_does() -> None:
    image, mask = picture(), blob()
    rule = CropRule(40, margin=0.5, fill="picture")
    ((_, found),) = crops(image, mask[None], BLACK, rule)
    wanted = bicubic(image.double().numpy()[:, 0:16, 0:23], 40)  # 4 rows (of 9) and 6 columns (of 12) to each side
    assert np.allclose(found.numpy(), wanted, atol=1e-5)


def test_kept_aspect_fills_a_square_up() -> None:
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[0, 4:8, 3:15] = True  # 4 x 12
    ((_, found),) = crops(picture(), mask, BLACK, CropRule(12, aspect="keep"))
    assert torch.allclose(found[:, 4:8], picture()[:, 4:8, 3:15], atol=1e-5)  # twelve pixels stay twelve
    assert torch.equal(found[:, 9:], torch.zeros(3, 3, 12))
    ((_, black),) = crops(picture(), mask, BLACK, CropRule(12, fill="zero", aspect="keep"))
    assert torch.allclose(black[:, 9:], BLACK.view(3, 1, 1).expand(3, 3, 12))


def test_a_region_of_one_pixel_is_a_flat_crop_and_an_empty_one_is_none() -> None:
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    masks[1, 19, 29] = True
    ((number, found),) = crops(picture(), masks, BLACK, CropRule(8))
    assert number == 1
    assert torch.allclose(found, picture()[:, 19, 29].view(3, 1, 1).expand(3, 8, 8), atol=1e-6)


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingError, match="margin"):
        CropRule(8, margin=-0.1)
    with pytest.raises(SettingError, match="side"):
        CropRule(0)
