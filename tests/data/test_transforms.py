from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lexiseg.data import transforms
from lexiseg.data.transforms import PairAugmentation, crop_box, photometric_distortion, to_tensor


def picture(height=40, width=50, seed=0):
    smooth = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3), np.uint8)
    return Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**31))
def test_crops_lie_in_the_picture(width, height, seed):
    left, top, right, bottom = crop_box(
        width, height, np.random.default_rng(seed), area=(0.08, 1.0), ratio=(0.75, 4 / 3)
    )
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_crops_have_the_area_and_the_ratio_asked_for():
    random = np.random.default_rng(0)
    boxes = np.array([crop_box(400, 300, random, area=(0.2, 0.5), ratio=(0.75, 4 / 3)) for _ in range(4000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, ratio = width * height / (400 * 300), width / height
    assert area.min() > 0.195
    assert area.max() < 0.505
    assert area.mean() == pytest.approx(0.35, abs=0.01)  # uniform
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.01)  # uniform in the logarithm
    room = 400 - width
    assert (boxes[:, 0] / room).mean() == pytest.approx(0.5, abs=0.02)


def test_a_picture_too_narrow_for_any_crop_gives_its_middle():
    box = crop_box(10, 1000, np.random.default_rng(0), area=(0.9, 1.0), ratio=(0.75, 4 / 3))
    assert box == (0, 493, 10, 506)  # 10 wide, 10 / 0.75 high


def test_tensors_are_the_bytes_channels_first():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    tensor = to_tensor(pixels)
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous()
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize(("saturation", "turns"), [(0.5, 0.0), (1.5, 0.0), (1.0, 0.1), (0.8, -0.07)])
def test_colours_shift_as_colorsys_computes_them(saturation, turns):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    expected = np.empty(pixels.shape)
    for place in np.ndindex(20, 20):
        hue, grey, value = colorsys.rgb_to_hsv(*(pixels[place] / 255))
        expected[place] = colorsys.hsv_to_rgb((hue + turns) % 1, min(1, grey * saturation), value)
    shifted = np.asarray(transforms._shift_colours(Image.fromarray(pixels), saturation, turns), float)
    assert np.abs(shifted - expected * 255).mean() < 1.5
    assert np.abs(shifted - expected * 255).max() <= 9  # 256 levels of hue are 1.4 degrees


def test_brightness_and_contrast_are_linear_and_clipped():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    ours = np.asarray(transforms._linear(Image.fromarray(pixels), 1.3, -20))
    assert np.array_equal(ours, np.clip(np.round(pixels * 1.3 - 20), 0, 255).astype(np.uint8))


def test_each_distortion_happens_half_of_the_time():
    image = picture(8, 8)
    same = sum(
        np.array_equal(photometric_distortion(image, np.random.default_rng(seed)), image) for seed in range(2000)
    )
    assert same / 2000 == pytest.approx(1 / 16, abs=0.02)  # four coins, and a few changes too small to see


def test_distortions_stay_within_the_published_bounds():
    grey = Image.fromarray(np.full((4, 4, 3), 100, np.uint8))  # hue and saturation cannot change it
    levels = [np.asarray(photometric_distortion(grey, np.random.default_rng(seed)))[0, 0, 0] for seed in range(500)]
    assert min(levels) >= (100 - 32) * 0.5 - 1
    assert max(levels) <= (100 + 32) * 1.5 + 1
    assert min(levels) < 45
    assert max(levels) > 180


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flip": 0.5, "policy": "autoaugment", "distort": True, "resample": "bicubic"},
        {"policy": "randaugment", "erase": 1.0},
    ],
)
def test_an_augmentation_is_a_function_of_its_random_numbers(settings):
    augment = PairAugmentation(size=24, **settings)
    one, again, other = (augment(picture(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (3, 24, 24)
    assert one.dtype == torch.uint8
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_flip_mirrors_the_picture():
    image, whole = picture(24, 24), {"size": 24, "area": (1.0, 1.0), "ratio": (1.0, 1.0)}
    straight = PairAugmentation(**whole)(image, np.random.default_rng(0))
    flipped = PairAugmentation(**whole, flip=1.0)(image, np.random.default_rng(0))
    assert torch.equal(flipped, straight.flip(-1))


def test_as_many_pictures_have_a_box_of_noise_as_asked_for():
    image = Image.fromarray(np.zeros((24, 24, 3), np.uint8))
    augment, random = PairAugmentation(size=24, erase=0.25), np.random.default_rng(0)
    erased = [bool(augment(image, random).any()) for _ in range(1000)]
    assert np.mean(erased) == pytest.approx(0.25, abs=0.04)
