"""Sizes follow mmseg's arithmetic, resizing follows Pillow, thin pictures stay affordable."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lexiseg.inference import preprocess
from lexiseg.segmenter import Inference

SIDES = st.integers(1, 6000)


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes with a few hard edges, as photographs have them."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), (x > 0.4) ^ (y > 0.6)]
    return ((np.dstack(waves) + 1) * 127).astype(np.uint8)


@pytest.mark.parametrize(
    ("given", "inference", "expected"),
    [
        # docs/papers/simseg.md §6.2: 500 x 375 at short side 224 and 448
        ((375, 500), Inference(short_side=224, long_side=2048), (224, 299)),
        ((375, 500), Inference(short_side=448, long_side=2048), (448, 597)),
        ((375, 500), Inference(long_side=520), (390, 520)),
        ((100, 1000), Inference(short_side=512, long_side=2048), (205, 2048)),
        ((375, 500), Inference(size=(288, 288)), (288, 288)),
        ((375, 500), Inference(), (375, 500)),
        ((375, 500), Inference(short_side=512, multiple=16), (512, 688)),
        ((3, 1000), Inference(long_side=256, multiple=8), (8, 256)),
    ],
)
def test_sizes_of_the_papers(given, inference, expected):
    assert preprocess.target_size(*given, inference) == expected


@settings(deadline=None)
@given(SIDES, SIDES)
def test_two_sides_follow_mmsegs_rule(height, width):
    scale = (2048, 512)
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    expected = tuple(max(1, int(side * factor + 0.5)) for side in (height, width))
    assert preprocess.target_size(height, width, Inference(short_side=512, long_side=2048)) == expected


@settings(deadline=None)
@given(SIDES, SIDES, st.sampled_from([1, 14, 16, 32]))
def test_sides_are_multiples_and_areas_bounded(height, width, multiple):
    sized = preprocess.target_size(height, width, Inference(short_side=512, multiple=multiple))
    assert all(side % multiple == 0 and side >= multiple for side in sized)
    bound = max(height * width, preprocess.MAX_UPSCALED_ASPECT * 512**2)
    assert math.prod(sized) <= 1.1 * bound + multiple * (sum(sized) + multiple)


def test_a_strip_is_not_enlarged_into_a_gigapixel():
    assert math.prod(preprocess.target_size(1, 5000, Inference(short_side=512, multiple=16))) < 5e6


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(64, 80), (375, 500), (700, 33), (1, 1), (97, 7)])
def test_antialiased_resizing_is_pillows(resample, size):
    rgb = skimage.data.chelsea()
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resample]
    expected = np.asarray(Image.fromarray(rgb).resize(size[::-1], method))
    resized = preprocess.resize(rgb, size, Inference(resample=resample)).permute(1, 2, 0).numpy()
    difference = np.abs(resized.astype(int) - expected)
    assert difference.max() <= 2
    assert difference.mean() <= 0.02


@pytest.mark.parametrize("size", [(30, 40), (97, 61), (1, 1)])
def test_without_antialiasing_only_the_four_nearest_pixels_count(size):
    rgb = photograph(64, 50)
    resized = preprocess.resize(rgb, size, Inference(antialias=False)).permute(1, 2, 0).numpy()
    places = [((np.arange(n) + 0.5) * m / n - 0.5).clip(0, m - 1) for n, m in zip(size, rgb.shape, strict=False)]
    for y, place_y in enumerate(places[0]):
        for x, place_x in enumerate(places[1]):
            y0, x0 = int(place_y), int(place_x)
            near = rgb[y0 : y0 + 2, x0 : x0 + 2].astype(float)
            rows = np.array([1 - place_y + y0, place_y - y0])[: len(near)]
            columns = np.array([1 - place_x + x0, place_x - x0])[: near.shape[1]]
            assert np.abs(np.einsum("yxc,y,x->c", near, rows, columns) - resized[y, x]).max() <= 0.51


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_extreme_shapes_pass(shape):
    inference = Inference(short_side=64, multiple=16)
    prepared = preprocess.prepare(photograph(*shape), inference)
    assert prepared.shape == (3, *preprocess.target_size(*shape, inference))
    assert prepared.dtype == torch.uint8


def test_an_array_that_cannot_be_written_is_read_without_a_warning() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb.flags.writeable = False
    assert preprocess.resize(rgb, (4, 4), Inference()).shape == (3, 4, 4)
