"""RandAugment and random erasing against closed forms, numpy and counts of what is drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lexiseg.data import randaugment as module
from lexiseg.data.randaugment import AREA, OPERATIONS, apply, erase, randaugment

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)
FILL = (124, 116, 104)  # 255 times ImageNet's mean


def changed(operation: str, share: float, sign: int = 1) -> np.ndarray:
    return np.asarray(apply(IMAGE, operation, share, sign=sign))


def test_levels_change_by_their_closed_forms() -> None:
    assert np.array_equal(changed("invert", 0.5), 255 - PIXELS)
    assert np.array_equal(changed("posterize", 0.5), PIXELS & 0b11000000)  # 4 - 4 / 2 bits
    assert np.array_equal(changed("solarize", 0.75), np.where(PIXELS < 64, PIXELS, 255 - PIXELS))
    lighter = np.minimum(255, PIXELS.astype(int) + 99)
    assert np.array_equal(changed("solarize_add", 0.9), np.where(PIXELS < 128, lighter, PIXELS))
    assert np.abs(changed("brightness", 0.5, -1) - PIXELS * 0.55).max() <= 1
    assert np.abs(changed("brightness", 1.0, -1) - PIXELS * 0.1).max() <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_shifts_are_shares_of_the_side(sign: int) -> None:
    across, down = changed("translate_x", 0.5 / 0.45, sign), changed("translate_y", 0.2 / 0.45, sign)
    if sign > 0:
        assert np.array_equal(across[:, :20], PIXELS[:, 20:])
        assert np.array_equal(down[:16], PIXELS[4:])
        assert (across[:, 20:] == FILL).all()
    else:
        assert np.array_equal(across[:, 20:], PIXELS[:, :20])
        assert np.array_equal(down[4:], PIXELS[:16])
        assert (down[:4] == FILL).all()


def test_shears_move_rows_and_columns_in_proportion() -> None:
    """In a picture that changes along one side, each row or column is the one before, shifted by the shear."""
    slope = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None] * 6, 20, axis=0).repeat(3, axis=2)
    for operation, picture in (("shear_x", slope), ("shear_y", slope.transpose(1, 0, 2))):
        sheared = np.asarray(apply(Image.fromarray(picture), operation, 0.5)).astype(float)
        sheared = sheared if operation == "shear_x" else sheared.transpose(1, 0, 2)
        assert np.abs(sheared[10, 2:30, 0] - sheared[0, 2:30, 0] - 10 * 0.15 * 6).max() <= 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_keeps_the_size_and_does_something(operation: str) -> None:
    narrow = Image.fromarray(PIXELS // 2 + 20)  # else there is no contrast to stretch
    for share in (0.5, 0.9, 1.0):
        found = apply(narrow, operation, share)
        assert found.size == narrow.size
        assert found.mode == "RGB"
        assert not np.array_equal(np.asarray(found), np.asarray(narrow))


def test_two_operations_are_drawn_and_each_is_used_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, float, int]] = []
    monkeypatch.setattr(
        module, "apply", lambda image, name, share, *, sign: (used.append((name, share, sign)), image)[1]
    )
    random = np.random.default_rng(0)
    for _ in range(3000):
        randaugment(IMAGE, random)
    counts = Counter(name for name, _, _ in used)
    assert len(used) == pytest.approx(3000, abs=150)
    assert set(counts) == set(OPERATIONS)
    assert max(counts.values()) < 1.5 * min(counts.values())
    shares = np.array([share for _, share, _ in used])
    assert shares.max() <= 1
    assert (shares.mean(), shares.std()) == pytest.approx((0.9, 0.05), abs=0.005)
    assert np.mean([sign for _, _, sign in used]) == pytest.approx(0, abs=0.06)


def test_the_same_seed_makes_the_same_picture() -> None:
    one, other = (np.asarray(randaugment(IMAGE, np.random.default_rng(5))) for _ in range(2))
    assert np.array_equal(one, other)


def test_a_box_of_noise_is_erased() -> None:
    random = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        pixels = np.zeros((60, 80, 3), np.uint8)
        erase(pixels, random)
        rows, columns = np.flatnonzero(pixels.any((1, 2))), np.flatnonzero(pixels.any((0, 2)))
        box = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        shares.append(box[..., 0].size / pixels[..., 0].size)
        assert box.any(2).mean() > 0.95  # what is outside of it is not touched
    assert AREA[0] * 0.8 < min(shares)
    assert max(shares) < AREA[1] * 1.1
    assert np.mean(shares) == pytest.approx(sum(AREA) / 2, abs=0.02)
    pixels = np.zeros((300, 300, 3), np.uint8)
    erase(pixels, np.random.default_rng(3))
    noise = pixels[pixels.any(2)] / 255
    assert noise.mean(0) == pytest.approx((0.485, 0.456, 0.406), abs=0.02)
    assert noise.std(0) == pytest.approx((0.229, 0.224, 0.225), abs=0.03)


def test_a_single_pixel_is_left_alone() -> None:
    pixels = np.full((1, 1, 3), 9, np.uint8)
    erase(pixels, np.random.default_rng(0))
    assert (pixels == 9).all()
