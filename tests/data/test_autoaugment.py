from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lexiseg.data import autoaugment as module
from lexiseg.data.autoaugment import POLICY, apply, autoaugment

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)


def grey(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L"), float)


def test_the_policy_is_the_published_one():
    assert len(POLICY) == 25
    steps = [step for pair in POLICY for step in pair]
    # how often each operation stands in the paper's table
    assert Counter(name for name, _, _ in steps) == {
        "equalize": 17, "solarize": 7, "color": 6, "posterize": 5, "rotate": 6, "invert": 3, "contrast": 2,
        "autocontrast": 2, "sharpness": 1, "shear_x": 1,
    }  # fmt: skip
    assert all(0 <= probability <= 1 and 0 <= magnitude <= 9 for _, probability, magnitude in steps)
    assert POLICY[0] == (("posterize", 0.4, 8), ("rotate", 0.6, 9))
    assert POLICY[18] == (("shear_x", 0.6, 5), ("equalize", 1.0, 0))


def test_inverting_posterizing_and_solarizing_are_their_closed_forms():
    assert np.array_equal(apply(IMAGE, "invert", 0), 255 - PIXELS)
    assert np.array_equal(apply(IMAGE, "posterize", 8), PIXELS & 0b11110000)  # 8 - 4 * 8 / 9 bits, rounded
    assert np.array_equal(apply(IMAGE, "posterize", 5), PIXELS & 0b11111100)
    threshold = 114  # 256 * (1 - 5 / 9), rounded
    assert np.array_equal(apply(IMAGE, "solarize", 5), np.where(threshold > PIXELS, PIXELS, 255 - PIXELS))


@pytest.mark.parametrize("sign", [1, -1])
def test_enhancements_blend_with_grey(sign):
    factor = 1 + sign * 0.9 * 8 / 9
    colour = grey(PIXELS)[..., None] * (1 - factor) + PIXELS * factor
    assert np.abs(np.asarray(apply(IMAGE, "color", 8, sign=sign), float) - colour.clip(0, 255)).max() <= 1
    contrast = round(grey(PIXELS).mean()) * (1 - factor) + PIXELS * factor
    assert np.abs(np.asarray(apply(IMAGE, "contrast", 8, sign=sign), float) - contrast.clip(0, 255)).max() <= 1


def test_autocontrast_stretches_each_channel():
    narrow = (PIXELS // 4 + 50).astype(np.uint8)
    low, high = narrow.min((0, 1)).astype(float), narrow.max((0, 1))
    stretched = (narrow - low) * 255 / (high - low)
    assert np.abs(np.asarray(apply(Image.fromarray(narrow), "autocontrast", 0), float) - stretched).max() <= 1


def test_equalizing_uses_the_whole_range_and_keeps_the_order():
    dark = (np.random.default_rng(1).integers(0, 40, (64, 64, 3))).astype(np.uint8)
    equal = np.asarray(apply(Image.fromarray(dark), "equalize", 0))
    assert equal.max() > 240
    table = {level: equal[..., 0][dark[..., 0] == level] for level in range(40)}
    assert all(len(set(values)) == 1 for values in table.values())
    assert all(table[level][0] <= table[level + 1][0] for level in range(39))


@pytest.mark.parametrize("sign", [1, -1])
def test_what_a_rotation_or_shear_uncovers_is_grey_128(sign):
    white = Image.new("RGB", (30, 30), "white")
    for operation in ("rotate", "shear_x"):
        result = np.asarray(apply(white, operation, 9, sign=sign))
        assert set(np.unique(result)) >= {128, 255}
        assert (result == 128).any(axis=2).any()
        assert (result[14:16, 14:16] == 255).all()


def test_a_rotation_of_magnitude_nine_is_thirty_degrees():
    marked = np.zeros((101, 101, 3), np.uint8)
    marked[50, 90] = 255  # 40 to the right of the middle
    marked = Image.fromarray(marked).resize((101, 101))
    y, x = np.argwhere(np.asarray(apply(marked, "rotate", 9))[..., 0] == 255).mean(axis=0) - 50
    assert np.degrees(np.arctan2(-y, x)) == pytest.approx(30, abs=1.5)


def test_a_shear_moves_each_row_by_its_height():
    marked = np.zeros((40, 60, 3), np.uint8)
    marked[:, 30] = 255
    sheared = np.asarray(apply(Image.fromarray(marked), "shear_x", 5))[..., 0].argmax(axis=1)
    np.testing.assert_allclose(sheared, 30 - 0.3 * 5 / 9 * np.arange(40), atol=1)


def test_pairs_halves_and_signs_are_drawn_with_their_probabilities(monkeypatch):
    used = Counter()

    def record(image, operation, magnitude, *, sign):
        used[operation] += 1
        used[sign] += 1
        return image

    monkeypatch.setattr(module, "apply", record)
    for seed in range(5000):
        autoaugment(IMAGE, np.random.default_rng(seed))
    for operation in ("equalize", "rotate", "invert"):
        expected = sum(probability for pair in POLICY for name, probability, _ in pair if name == operation) / 25
        assert used[operation] / 5000 == pytest.approx(expected, abs=0.03)
    assert used[1] / (used[1] + used[-1]) == pytest.approx(0.5, abs=0.03)
