"""What corruptions do, against closed forms and other libraries."""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage import filters

from lexiseg.data.corruptions import kinds
from lexiseg.data.corruptions.corruptions import CORRUPTIONS, corrupt


def chance(seed=0):
    return np.random.default_rng(seed)


def parameters(name, severity):
    return CORRUPTIONS[name].parameters[severity - 1]


def grey(level, size=(300, 300)):
    return np.full((*size, 3), level, np.float32)


def textured(size=(48, 61), seed=0):
    return ndimage.gaussian_filter(chance(seed).random((*size, 3)), (1, 1, 0)).astype(np.float32)


def impulse(size=81):
    picture = np.zeros((size, size, 3), np.float32)
    picture[size // 2, size // 2] = 1
    return picture


# ---- noise: 270,000 draws, so deviations are known to 0.5 % ----


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_gaussian_noise_has_the_deviation_of_its_severity(severity):
    (deviation,) = parameters("gaussian_noise", severity)
    noise = kinds.gaussian_noise(grey(0.5), chance(), deviation) - 0.5
    assert noise.std() == pytest.approx(deviation, rel=0.01)
    assert noise.mean() == pytest.approx(0, abs=0.005)


def test_noise_is_independent_between_pixels_and_channels():
    noise = kinds.gaussian_noise(grey(0.5), chance(), 0.1) - 0.5
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_shot_noise_is_poisson(severity, level):
    (photons,) = parameters("shot_noise", severity)
    changed = kinds.shot_noise(grey(level), chance(), photons)
    assert changed.mean() == pytest.approx(level, rel=0.02)
    assert changed.var() == pytest.approx(level / photons, rel=0.02)  # the variance of a count is its mean
    np.testing.assert_allclose(changed * photons, np.rint(changed * photons), atol=1e-4)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_speckle_noise_grows_with_the_brightness(severity):
    (deviation,) = parameters("speckle_noise", severity)
    for level in (0.2, 0.8):
        changed = kinds.speckle_noise(grey(level), chance(), deviation)
        assert changed.std() == pytest.approx(level * deviation, rel=0.01)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_impulse_noise_is_half_salt_and_half_pepper(severity):
    (share,) = parameters("impulse_noise", severity)
    changed = kinds.impulse_noise(grey(0.5), chance(), share)
    assert (changed == 0).mean() == pytest.approx(share / 2, rel=0.05)
    assert (changed == 1).mean() == pytest.approx(share / 2, rel=0.05)
    assert set(np.unique(changed)) == {0, 0.5, 1}


# ---- blur ----


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_gaussian_blur_spreads_a_point_by_its_deviation(severity):
    (deviation,) = parameters("gaussian_blur", severity)
    spread = kinds.gaussian_blur(impulse(), chance(), deviation)[..., 0].astype(float)
    x = np.arange(81) - 40
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(axis=0) * x**2).sum() == pytest.approx(deviation**2, rel=0.02)
    picture = textured()
    expected = filters.gaussian(picture, deviation, channel_axis=-1)
    np.testing.assert_allclose(kinds.gaussian_blur(picture, chance(), deviation), expected, atol=1e-5)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_defocus_blur_is_convolution_with_a_disc(severity):
    radius, softness = parameters("defocus_blur", severity)
    kernel = kinds.disc(radius, softness)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    reach = len(kernel) // 2
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    assert np.allclose(kernel[distance < radius - 2], kernel[reach, reach])
    assert kernel[reach, reach] == pytest.approx(1 / (distance <= radius).sum(), rel=0.02)
    assert kernel[distance > radius + 2].max(initial=0) < 1e-4
    picture = textured()
    expected = [ndimage.convolve(picture[..., c], kernel, mode="mirror") for c in range(3)]
    np.testing.assert_allclose(
        kinds.defocus_blur(picture, chance(), radius, softness), np.stack(expected, axis=-1), atol=1e-5
    )


@pytest.mark.parametrize("angle", [0, 30, -45, 90, -120])
def test_a_smeared_point_is_half_a_gaussian_along_the_angle(angle):
    radius, deviation = 15, 8
    trail = kinds.smear(impulse()[..., 0], radius, deviation, angle)
    y, x = np.nonzero(trail)
    along = -(x - 40) * math.cos(math.radians(angle)) - (y - 40) * math.sin(math.radians(angle))
    across = (x - 40) * math.sin(math.radians(angle)) - (y - 40) * math.cos(math.radians(angle))
    assert np.abs(across).max() <= 0.75  # pixels: the taps lie on the grid
    assert along.min() > -0.75
    assert along.max() == pytest.approx(2 * radius, abs=0.75)
    assert trail.sum() == pytest.approx(1, abs=1e-5)
    taps = np.exp(-(np.arange(31) ** 2) / (2 * deviation**2))
    assert trail[40, 40] == pytest.approx(taps[0] / taps.sum(), rel=1e-5)
    assert (trail[y, x] * along).sum() == pytest.approx((taps * np.arange(31)).sum() / taps.sum(), abs=0.3)


def test_enlarging_equals_scipys_affine_transform():
    picture = textured((37, 52))
    for factor in (1, 1.01, 1.3, 4.5):
        offset = [(side - 1) / 2 * (1 - 1 / factor) for side in picture.shape[:2]]
        expected = [
            ndimage.affine_transform(picture[..., c], [1 / factor] * 2, offset, order=1, mode="nearest")
            for c in range(3)
        ]
        np.testing.assert_allclose(kinds.enlarge(picture, factor), np.stack(expected, axis=-1), atol=1e-5)
        np.testing.assert_allclose(kinds.enlarge(picture[..., 0], factor), expected[0], atol=1e-5)


@pytest.mark.parametrize(("severity", "largest"), [(1, 1.10), (2, 1.15), (3, 1.20), (4, 1.24), (5, 1.30)])
def test_zoom_blur_is_the_mean_of_enlargements_up_to_the_published_one(severity, largest):
    step, steps = parameters("zoom_blur", severity)
    assert 1 + (steps - 1) * step == pytest.approx(largest)
    picture = textured()
    layers = [picture] + [kinds.enlarge(picture, 1 + k * step) for k in range(steps)]
    np.testing.assert_allclose(kinds.zoom_blur(picture, chance(), step, steps), np.mean(layers, axis=0), atol=1e-5)


def test_glass_only_swaps_pixels_and_leaves_the_rim():
    height, width, reach = 20, 30, 3
    order = kinds._shuffle_nearby(height, width, chance(), reach, 2)
    assert sorted(order) == list(range(height * width))
    moved = np.array(order).reshape(height, width) != np.arange(height * width).reshape(height, width)
    assert moved[reach:-reach, reach:-reach].mean() > 0.8
    assert not moved[0].any()
    assert not moved[:, 0].any()


def test_one_round_of_glass_moves_neighbours_no_farther_than_its_reach():
    order = np.array(kinds._shuffle_nearby(40, 40, chance(), 1, 1)).reshape(40, 40)
    y, x = np.divmod(order, 40)
    rows, columns = np.mgrid[:40, :40]
    # a pixel swapped early may be swapped on, yet always by one place at a time: most stay close
    assert np.quantile(np.maximum(np.abs(y - rows), np.abs(x - columns)), 0.75) <= 1


# ---- weather ----


def test_plasma_fills_zero_to_one_and_a_larger_decay_is_smoother():
    rough, smooth = (kinds.plasma(100, 140, chance(), decay) for decay in (1.4, 2.0))
    for clouds in (rough, smooth):
        assert clouds.shape == (100, 140)
        assert clouds.min() >= 0
        assert clouds.max() <= 1
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(smooth)).mean()


def test_plasma_wraps_around():
    clouds = kinds.plasma(64, 64, chance(), 2.0)
    seam = np.abs(clouds[:, 0] - clouds[:, -1]).mean()
    assert seam < 1.5 * np.abs(np.diff(clouds, axis=1)).mean()


@pytest.mark.parametrize("severity", [1, 5])
def test_fog_keeps_the_brightest_value_and_flattens_the_picture(severity):
    picture = textured((64, 64)) * 0.9
    foggy = kinds.fog(picture, chance(), *parameters("fog", severity))
    assert foggy.max() <= picture.max() + 1e-6
    thickness = parameters("fog", severity)[0]
    fine = [image - ndimage.gaussian_filter(image, (2, 2, 0)) for image in (picture, foggy)]
    if severity == 1:  # little fine structure in this fog: what is left of the picture's own is the scale
        assert fine[1].std() / fine[0].std() == pytest.approx(picture.max() / (picture.max() + thickness), rel=0.1)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_snow_only_brightens(severity):
    picture = textured((64, 80))
    assert (kinds.snow(picture, chance(), *parameters("snow", severity)) >= picture - 1e-6).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_frost_lies_pale_blue_on_a_dimmed_picture(severity):
    keep, strength = parameters("frost", severity)
    picture = textured((64, 80))
    layer = kinds.frost(picture, chance(), keep, strength) - keep * picture
    assert layer.min() >= -1e-6
    assert layer.max() <= strength + 1e-6
    assert (layer[..., 2] >= layer[..., 0] - 1e-6).all()
    assert layer.std() > 0.05


def test_mud_covers_with_brown_and_leaves_the_rest_alone():
    picture = grey(0.9, (120, 150))
    changed = kinds.spatter(picture, chance(), *parameters("spatter", 5))
    untouched = (changed == picture).all(axis=-1)
    assert 0.3 < untouched.mean() < 0.99
    brown = np.abs(changed - np.array([63, 42, 20]) / 255).max(axis=-1) < 0.02
    assert brown.any()
    assert (changed[~untouched][:, 0] > changed[~untouched][:, 2]).all()


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water_adds_light_up_to_its_strength(severity):
    picture = grey(0.2, (160, 160))
    added = kinds.spatter(picture, chance(), *parameters("spatter", severity)) - picture
    assert added.min() >= -1e-6
    assert added.max() == pytest.approx(parameters("spatter", severity)[4] * 238 / 255, rel=1e-3)
    assert (added == 0).mean() > 0.5


# ---- colour, shape, storage ----


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_brightness_and_saturate_work_on_hsv(severity):
    picture = chance().random((4, 5, 3)).astype(np.float32)
    (amount,) = parameters("brightness", severity)
    factor, shift = parameters("saturate", severity)
    brighter = kinds.brightness(picture, chance(), amount)
    stronger = kinds.saturate(picture, chance(), factor, shift)
    for place in np.ndindex(4, 5):
        h, s, v = colorsys.rgb_to_hsv(*picture[place].astype(float))
        np.testing.assert_allclose(brighter[place], colorsys.hsv_to_rgb(h, s, min(v + amount, 1)), atol=1e-5)
        saturation = min(max(s * factor + shift, 0), 1)
        np.testing.assert_allclose(stronger[place], colorsys.hsv_to_rgb(h, saturation, v), atol=1e-5)


@pytest.mark.parametrize("severity", [1, 5])
def test_contrast_keeps_the_means_and_scales_the_deviations(severity):
    (factor,) = parameters("contrast", severity)
    picture = textured()
    changed = kinds.contrast(picture, chance(), factor)
    np.testing.assert_allclose(changed.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(changed.std(axis=(0, 1)), factor * picture.std(axis=(0, 1)), rtol=1e-4)


def test_elastic_moves_nothing_without_wobble_and_jolt():
    picture = textured()
    np.testing.assert_allclose(kinds.elastic_transform(picture, chance(), 0, 2, 0), picture, atol=1e-5)


def test_elastic_without_wobble_is_affine():
    rows, columns = np.mgrid[:90, :90].astype(np.float32)
    picture = np.stack([rows, columns, rows + columns], axis=-1)
    moved = kinds.elastic_transform(picture, chance(2), 0, 2, 4)[20:70, 20:70]  # away from the mirrored border
    basis = np.column_stack([rows[20:70, 20:70].ravel(), columns[20:70, 20:70].ravel(), np.ones(2500)])
    fit, *_ = np.linalg.lstsq(basis, moved.reshape(-1, 3), rcond=None)
    np.testing.assert_allclose(basis @ fit, moved.reshape(-1, 3), atol=1e-3)
    jumps = chance(2).uniform(-4, 4, (3, 2))  # the anchor that jumped reads from where it stood
    anchor = np.array([45 + 30, 45 + 30])
    np.testing.assert_allclose(([*(anchor + jumps[0]), 1] @ fit)[:2], anchor, atol=1e-2)


def test_elastic_wobbles_by_smoothed_noise():
    rows, columns = np.mgrid[:80, :100].astype(np.float32)
    picture = np.stack([rows, columns, rows], axis=-1)
    wobble, deviation = 20, 2.44
    moved = kinds.elastic_transform(picture, chance(), wobble, deviation, 0)[10:-10, 10:-10]
    shifts = moved[..., :2] - picture[10:-10, 10:-10, :2]
    # uniform noise has variance 1/3; a Gaussian kernel of deviation s leaves 1 / (4 pi s^2) of it
    expected = wobble * math.sqrt(1 / 3 / (4 * math.pi * deviation**2))
    assert shifts.std() == pytest.approx(expected, rel=0.1)


def test_a_plain_picture_has_nothing_to_move_or_blur():
    picture = grey(0.4, (40, 50))
    for name in ("elastic_transform", "gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"):
        for severity in (1, 5):
            changed = CORRUPTIONS[name].apply(picture, chance(), *parameters(name, severity))
            np.testing.assert_allclose(changed, picture, atol=1e-5, err_msg=name)


def test_pixelate_averages_blocks():
    picture = textured((40, 64))
    blocks = picture.reshape(10, 4, 16, 4, 3).mean(axis=(1, 3))
    expected = np.kron(blocks, np.ones((4, 4, 1)))
    np.testing.assert_allclose(kinds.pixelate(picture, chance(), 0.25), expected, atol=1.01 / 255)


@pytest.mark.parametrize(("severity", "quality"), [(1, 25), (2, 18), (3, 15), (4, 10), (5, 7)])
def test_jpeg_equals_pillows_own_round_trip(severity, quality):
    photo = np.rint(textured() * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
    np.testing.assert_array_equal(corrupt(photo, "jpeg_compression", severity, 0), np.asarray(Image.open(buffer)))
