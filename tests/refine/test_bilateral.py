"""The lattice against all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from lexiseg.errors import SettingError
from lexiseg.refine import _bilateral
from lexiseg.refine._bilateral import Bilateral

from .exact import PHOTOGRAPHS, bilateral_features, kernel, normalised_kernel, photograph, soft_maps


def lattice_normalised(bilateral: Bilateral, values: np.ndarray) -> np.ndarray:
    scale = 1 / np.sqrt(bilateral(np.ones((1, values.shape[1]), np.float32)))
    return scale * bilateral((scale * values).astype(np.float32))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("sigma_colour", [13, 5])
def test_normalised_sums_are_those_of_all_pairs(name, sigma_colour):
    rgb = photograph(name, 48)
    values = soft_maps(rgb, 4).reshape(4, -1)
    expected = values @ normalised_kernel(bilateral_features(rgb, 40, sigma_colour))
    found = lattice_normalised(Bilateral(rgb, 40, sigma_colour), values)
    assert np.abs(found - expected).mean() < 0.016 * expected.mean()
    assert np.abs(found - expected).max() < 0.1


def test_nodes_at_every_pixel_and_level_leave_nothing_to_interpolate():
    random = np.random.default_rng(0)
    rgb = random.integers(100, 103, (9, 7, 3)).astype(np.uint8)
    values = random.random((2, 63)).astype(np.float32)
    found = Bilateral(rgb, 1.5, 1)(values)
    expected = values @ kernel(bilateral_features(rgb, 1.5, 1))
    assert np.allclose(found, expected, rtol=2e-5)


def test_a_picture_of_one_colour_leaves_the_gaussian_over_positions():
    grey = np.full((70, 90, 3), 117, np.uint8)
    values = np.random.default_rng(0).random((1, 70 * 90)).astype(np.float32)
    bilateral = Bilateral(grey, 10, 13)
    found = bilateral(values) / bilateral(np.ones_like(values))
    blur = {"sigma": 10, "mode": "constant", "truncate": 8}
    expected = ndimage.gaussian_filter(values.reshape(70, 90), **blur) / ndimage.gaussian_filter(
        np.ones((70, 90)), **blur
    )
    assert np.allclose(found.reshape(70, 90), expected, atol=2e-3)


def test_two_pixels_of_unlike_colours_do_not_mix():
    halves = np.zeros((20, 20, 3), np.uint8)
    halves[:, 10:] = 255
    left = np.zeros((20, 20), np.float32)
    left[:, :10] = 1
    found = Bilateral(halves, 40, 13)(left.reshape(1, -1)).reshape(20, 20)
    assert found[:, :10].min() > 1
    assert found[:, 10:].max() == 0


def test_sums_are_symmetric():
    rgb = photograph("coffee", 40)
    a, b = np.random.default_rng(0).random((2, 1, 1600)).astype(np.float32)
    bilateral = Bilateral(rgb, 40, 13)
    assert np.vdot(a, bilateral(b)) == pytest.approx(np.vdot(bilateral(a), b), rel=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
def test_each_field_is_summed_by_itself_on_any_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    rgb = photograph("coffee", 32)
    fields = np.random.default_rng(0).random((5, 1024)).astype(np.float32)
    bilateral = Bilateral(rgb, 40, 13)
    assert np.array_equal(bilateral(fields), np.concatenate([bilateral(field[None]) for field in fields]))


def test_a_mirrored_picture_has_mirrored_sums():
    rgb = photograph("astronaut", 50)[:, :37]
    values = np.random.default_rng(0).random((50, 37)).astype(np.float32)
    plain = Bilateral(rgb, 40, 13)(values.reshape(1, -1)).reshape(50, 37)
    mirrored = Bilateral(rgb[::-1, ::-1].copy(), 40, 13)(values[::-1, ::-1].reshape(1, -1)).reshape(50, 37)
    assert np.allclose(plain, mirrored[::-1, ::-1], rtol=1e-4)


def test_sigmas_too_small_for_the_picture_are_an_error(monkeypatch):
    monkeypatch.setattr(_bilateral, "MAX_NODES", 1000)
    with pytest.raises(SettingError, match="use larger ones"):
        Bilateral(photograph("coffee", 32), 2, 13)
