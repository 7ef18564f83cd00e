"""Boundary IoU against masks eroded one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import disk

from lexiseg.errors import DataError
from lexiseg.metrics import scores
from lexiseg.metrics.boundary import boundary_tallies


def brute_force(labels, truth, classes, width):
    """Cheng et al., section 4: for each class both masks minus their erosions, ignored pixels left out."""
    tallies = np.zeros((3, classes), dtype=np.int64)
    square = np.ones((3, 3), bool)
    for c in range(classes):
        bands = []
        for mask in (labels == c, truth == c):
            inner = ndimage.binary_erosion(mask, square, iterations=width, border_value=0)
            bands.append(mask & ~inner & (truth != 255))
        tallies[:, c] = (bands[0] & bands[1]).sum(), (bands[0] & ~bands[1]).sum(), (bands[1] & ~bands[0]).sum()
    return tallies


def shapes(random, size, classes):
    """Overlapping discs of classes, and an ignored rim."""
    canvas = np.zeros(size, np.uint8)
    for _ in range(5):
        radius = int(random.integers(3, 12))
        y, x = (int(random.integers(0, side - 3)) for side in size)
        stamp = disk(radius)[: size[0] - y, : size[1] - x].astype(bool)
        canvas[y : y + stamp.shape[0], x : x + stamp.shape[1]][stamp] = random.integers(0, classes)
    return canvas


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), ratio=st.sampled_from([0.005, 0.02, 0.05, 0.1]))
def test_bands_equal_masks_minus_their_erosion(seed, ratio):
    random = np.random.default_rng(seed)
    labels, truth = shapes(random, (40, 53), 4), shapes(random, (40, 53), 4)
    labels[:5] = 255
    truth[random.random(truth.shape) < 0.02] = 255
    width = max(1, round(ratio * math.hypot(40, 53)))
    np.testing.assert_array_equal(boundary_tallies(labels, truth, 4, ratio=ratio), brute_force(labels, truth, 4, width))


def test_a_square_that_is_one_pixel_off_by_hand():
    truth, labels = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    truth[20:60, 20:60] = 1
    labels[20:60, 21:61] = 1
    found = scores.iou(boundary_tallies(labels, truth, 2, ratio=0.01))[1]  # a band of one pixel: 156 of 1600
    # the two outlines share their horizontal sides, without the corner columns that are on one alone
    shared = 2 * 39
    assert found == pytest.approx(shared / (2 * 156 - shared))


def test_a_perfect_map_scores_one_and_errors_weigh_more_than_in_miou():
    truth = shapes(np.random.default_rng(0), (80, 80), 4)
    assert scores.mean_iou(boundary_tallies(truth, truth, 4)) == 1
    shifted = np.roll(truth, 2, axis=1)
    plain = np.array([[((shifted == c) & (truth == c)).sum() for c in range(4)]])
    area = [((shifted == c) | (truth == c)).sum() for c in range(4)]
    assert scores.mean_iou(boundary_tallies(shifted, truth, 4)) < (plain / area).mean()


def test_a_wider_band_than_the_image_is_mask_iou():
    random = np.random.default_rng(2)
    labels, truth = random.integers(0, 3, (2, 12, 12)).astype(np.uint8)
    found = scores.iou(boundary_tallies(labels, truth, 3, ratio=1.0))
    expected = [((labels == c) & (truth == c)).sum() / ((labels == c) | (truth == c)).sum() for c in range(3)]
    np.testing.assert_allclose(found, expected)


def test_maps_of_different_size_are_refused():
    with pytest.raises(DataError, match="give both"):
        boundary_tallies(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8), 2)
