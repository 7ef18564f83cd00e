"""The dense CRF against its formulas, and what must hold whatever its accuracy."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lexiseg.errors import ImageError, SettingError
from lexiseg.refine.crf import SIMSEG, Config, _Smoothness, dense_crf

from .exact import PHOTOGRAPHS, crfs, normalised_kernel, photograph, places, soft_maps

AGREEMENT = 0.99  # of labels, against the exact sum
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "refine.py"


def posterior(rgb: np.ndarray, labels: int, **options: int) -> torch.Tensor:
    return torch.from_numpy(soft_maps(rgb, labels, **options)).float()


# against the formulas


@pytest.mark.parametrize("side", [64, pytest.param(96, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_labels_are_those_of_the_exact_sum(name, side):
    rgb = photograph(name, side)
    problems = [soft_maps(rgb, labels) for labels in (2, 20)]
    for soft, exact in zip(problems, crfs(problems, rgb), strict=True):
        found = dense_crf(torch.from_numpy(soft), rgb).numpy()
        assert (exact.argmax(0) != soft.argmax(0)).mean() > 0.02  # or agreement would say nothing
        assert (found.argmax(0) == exact.argmax(0)).mean() >= AGREEMENT
        assert np.abs(found - exact).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_labels_are_those_of_the_exact_sum_at_simsegs_size(name, tmp_path):
    """Minutes of one core each: 82,944 squared pairs, five times."""
    out = tmp_path / "refine.json"
    command = [sys.executable, str(BENCHMARK), "--exact", "--photos", name, "--repeats", "1", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 3
    for row in rows:
        assert row["changed"] > 0.02
        assert row["agreement"] >= AGREEMENT


def test_the_smoothness_kernel_is_exact():
    rgb = np.zeros((23, 31, 3), np.uint8)
    q = torch.from_numpy(np.random.default_rng(0).random((2, 23, 31))).float()
    expected = (q.reshape(2, -1).double().numpy() @ normalised_kernel(places(rgb) / 3)).reshape(q.shape)
    assert np.allclose(_Smoothness((23, 31), 3.0)(q), expected, rtol=1e-5)


def test_the_smoothness_kernel_is_scipys_gaussian_away_from_the_border():
    q = torch.from_numpy(np.random.default_rng(0).random((80, 80))).float()
    expected = ndimage.gaussian_filter(q.double().numpy(), 3, truncate=8)
    assert np.allclose(_Smoothness((80, 80), 3.0)(q)[25:-25, 25:-25], expected[25:-25, 25:-25], rtol=1e-5)


# what must hold


def test_the_defaults_are_simsegs():
    assert Config() == SIMSEG
    assert Config(3, 3.0, 3.0, 10.0, 40.0, 13.0, 1e-8) == SIMSEG


def test_q_is_a_posterior():
    rgb = photograph("chelsea", 40)
    q = dense_crf(posterior(rgb, 5), rgb)
    assert q.min() >= 0
    assert torch.allclose(q.sum(0), torch.ones(40, 40), atol=1e-5)


def test_without_weights_q_is_the_probability():
    rgb, soft = photograph("chelsea", 30), posterior(photograph("chelsea", 30), 4)
    q = dense_crf(soft, rgb, config=Config(smoothness_weight=0, appearance_weight=0))
    assert torch.allclose(q, soft, atol=1e-6)


def test_order_of_labels_only_permutes_q():
    rgb, order = photograph("astronaut", 48), [3, 0, 4, 1, 2]
    soft = posterior(rgb, 5)
    assert torch.allclose(dense_crf(soft[order], rgb), dense_crf(soft, rgb)[order], atol=1e-4)


def test_problems_about_one_image_do_not_mix():
    rgb = photograph("coffee", 40)
    problems = torch.stack([posterior(rgb, 2, seed=seed) for seed in range(4)])
    together = dense_crf(problems.reshape(2, 2, 2, 40, 40), rgb)
    alone = torch.stack([dense_crf(problem, rgb) for problem in problems])
    assert torch.allclose(together.reshape(alone.shape), alone, atol=1e-6)


def test_labels_take_the_shape_of_the_object():
    """A soft disc at the wrong place is pulled onto the square whose colour it mostly covers."""
    rgb = np.full((64, 64, 3), 40, np.uint8)
    rgb[20:44, 20:44] = 200
    rows, columns = np.indices((64, 64))
    inside = torch.from_numpy(np.exp(-((rows - 29.0) ** 2 + (columns - 34.0) ** 2) / (2 * 14.0**2))).float() ** 0.5
    labels = dense_crf(torch.stack([1 - inside, inside]), rgb).argmax(0)
    before = (inside > 0.5).numpy() == (rgb[..., 0] == 200)
    after = labels.bool().numpy() == (rgb[..., 0] == 200)
    assert before.mean() < 0.95
    assert after.mean() > 0.99


def test_a_pixel_alone_among_its_like_gives_in():
    rgb = np.full((30, 30, 3), 90, np.uint8)
    foreground = torch.full((30, 30), 0.2)
    foreground[15, 15] = 0.9
    assert dense_crf(torch.stack([1 - foreground, foreground]), rgb).argmax(0).sum() == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 99))
def test_any_size_and_any_colours_are_fine(height, width, labels, seed):
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    soft = torch.from_numpy(random.dirichlet(np.ones(labels), (height, width))).permute(2, 0, 1)
    q = dense_crf(soft, rgb)
    assert q.shape == soft.shape
    assert torch.allclose(q.sum(0), torch.ones(height, width), atol=1e-5)


def test_certain_probabilities_stay_finite():
    rgb = photograph("coffee", 32)
    one_hot = torch.eye(2)[(torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) > 0.5).long()]
    assert dense_crf(one_hot.permute(2, 0, 1), rgb).isfinite().all()


def test_results_are_the_same_again():
    rgb = photograph("astronaut", 40)
    soft = posterior(rgb, 6)
    assert torch.equal(dense_crf(soft, rgb), dense_crf(soft, rgb))


def test_sizes_that_differ_and_pixels_that_are_no_rgb_are_errors():
    with pytest.raises(ImageError, match="do not fit an image of 8 x 9"):
        dense_crf(torch.rand(2, 9, 8), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(ImageError, match="uint8 RGB"):
        dense_crf(torch.rand(2, 9, 8), np.zeros((9, 8, 3)))


@pytest.mark.parametrize(
    "change", [{"iterations": 0}, {"smoothness_sigma": 0}, {"appearance_weight": -1}, {"added": 0}]
)
def test_settings_that_mean_nothing_are_errors(change):
    with pytest.raises(SettingError, match=next(iter(change))):
        replace(SIMSEG, **change)
