"""Crops against a loop over pixels that follows the order of the specification: box, fill, bicubic resize."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.layers.crops import CropRule, boxes, crops

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
STATISTICS = (MEAN, STD)


def picture(height: int = 20, width: int = 30) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def normalised(levels: np.ndarray) -> np.ndarray:
    """Levels [3, H, W] in float64."""
    mean, std = (np.array(each)[:, None, None] for each in STATISTICS)
    return np.asarray((levels / 255 - mean) / std)


def only(mask: Tensor, rule: CropRule) -> np.ndarray:
    """The crop of the one mask [H, W] that there is."""
    ((number, found),) = crops(picture(*mask.shape), mask[None], rule, STATISTICS)
    assert number == 0
    return found.double().numpy()


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
def test_pixels_are_cropped_filled_normalised_and_resized(fill) -> None:  # type: ignore[no-untyped-def]
    """Normalised before the resize, so that the mean colour is zero, and not clamped after it."""
    mask = blob()
    part = normalised(picture().numpy().astype(np.float64))[:, 3:12, 5:17]
    outside = ~mask.numpy()[3:12, 5:17]
    if fill != "picture":
        part[:, outside] = 0 if fill == "mean" else normalised(np.zeros((3, 1, 1)))[:, 0]
    found = only(mask, CropRule(16, fill=fill))
    assert np.allclose(found, bicubic(part, 16), atol=1e-5)
    brightest = normalised(np.full((3, 1, 1), 255.0)).max()
    assert found.max() > brightest  # a bicubic filter overshoots, and nothing is clamped


@pytest.mark.parametrize(("fill", "level"), [("mean", (122, 117, 105)), ("zero", (0, 0, 0))])
def test_with_a_filter_bytes_are_resized_as_pillow_does(fill, level) -> None:  # type: ignore[no-untyped-def]
    """Within a level, since the two round otherwise on the way."""
    mask = torch.zeros(200, 300, dtype=torch.bool)
    mask[20:180, 30:250] = True
    mask[100:, :100] = False
    image = picture(200, 300).permute(1, 2, 0).numpy().copy()
    image[~mask.numpy()] = level
    resized = Image.fromarray(image[20:180, 30:250]).resize((16, 16), Image.Resampling.BICUBIC)
    wanted = normalised(np.asarray(resized, np.float64).transpose(2, 0, 1))
    found = only(mask, CropRule(16, fill=fill, antialias=True))
    one = 1.01 / 255 / min(STD)
    assert np.abs(found - wanted).max() < one
    assert np.abs(only(mask, CropRule(16, fill=fill)) - wanted).max() > 10 * one


def test_boxes_are_tight_and_those_of_empty_masks_are_empty() -> None:
    random = np.random.default_rng(0)
    masks = random.random((20, 9, 13)) > 0.97
    masks[0], masks[1] = False, True
    for box, mask in zip(boxes(torch.from_numpy(masks)).tolist(), masks, strict=True):
        rows, columns = np.nonzero(mask)
        wanted = [0] * 4 if not len(rows) else [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        assert box == wanted


def test_a_margin_ends_where_the_picture_does() -> None:
    found = only(blob(), CropRule(40, margin=0.5, fill="picture"))
    part = picture().numpy().astype(np.float64)[:, 0:16, 0:23]  # 4 rows (of 9) and 6 columns (of 12) to each side
    assert np.allclose(found, bicubic(normalised(part), 40), atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_kept_aspect_fills_a_square_up(antialias: bool) -> None:
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[4:8, 3:15] = True  # 4 x 12
    found = only(mask, CropRule(12, aspect="keep", antialias=antialias))
    part = normalised(picture().numpy().astype(np.float64)[:, 4:8, 3:15])
    assert np.allclose(found[:, 4:8], part, atol=1e-5)  # twelve pixels stay twelve
    assert np.abs(found[:, 9:]).max() < (1 / 255 / min(STD) if antialias else 1e-6)  # the mean colour
    black = only(mask, CropRule(12, fill="zero", aspect="keep", antialias=antialias))
    assert np.allclose(black[:, 9:], normalised(np.zeros((3, 3, 12))), atol=1e-5)


def test_a_region_of_one_pixel_is_a_flat_crop_and_an_empty_one_is_none() -> None:
    masks = torch.zeros(3, 20, 30, dtype=torch.bool)
    masks[1, 19, 29] = True
    for antialias in (False, True):
        ((number, found),) = crops(picture(), masks, CropRule(8, antialias=antialias), STATISTICS, torch.float64)
        assert number == 1
        assert found.dtype == torch.float64
        wanted = normalised(picture().numpy().astype(np.float64)[:, 19:, 29:])
        assert np.allclose(found.numpy(), np.broadcast_to(wanted, (3, 8, 8)), atol=1e-6)


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingError, match="margin"):
        CropRule(8, margin=-0.1)
    with pytest.raises(SettingError, match="side"):
        CropRule(0)
