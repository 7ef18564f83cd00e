"""Choosing corruptions, their seeds, and the golden values of one fixed picture."""

from __future__ import annotations

import subprocess
import sys
import zlib

import numpy as np
import pytest

from lexiseg.data.corruptions.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, corrupt, image_seed, parse
from lexiseg.errors import ImageError, SettingError, UnknownName

WITHOUT_CHANCE = {
    "gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", "pixelate", "jpeg_compression"
}  # fmt: skip

# mean of red, green and blue, and mean change, in levels: `fixed_photograph` at severity 3 with seed 7
GOLDEN = {
    "gaussian_noise": (140.4, 121.1, 140.5, 34.9),
    "shot_noise": (137.7, 119.3, 137.0, 38.7),
    "impulse_noise": (140.3, 121.3, 138.4, 11.7),
    "speckle_noise": (137.2, 119.5, 137.3, 35.1),
    "gaussian_blur": (141.3, 120.7, 139.6, 13.0),
    "defocus_blur": (141.4, 120.7, 139.6, 15.0),
    "glass_blur": (141.4, 120.7, 139.6, 14.3),
    "motion_blur": (141.2, 129.8, 141.3, 19.1),
    "zoom_blur": (144.1, 119.6, 136.3, 13.9),
    "snow": (203.6, 194.1, 206.6, 67.5),
    "frost": (176.1, 169.5, 187.8, 48.5),
    "fog": (106.6, 101.1, 106.1, 47.8),
    "spatter": (148.5, 130.9, 149.4, 9.0),
    "brightness": (186.7, 164.5, 192.9, 47.4),
    "contrast": (141.3, 120.8, 139.7, 34.8),
    "saturate": (112.1, 87.0, 121.7, 27.0),
    "elastic_transform": (141.9, 121.0, 140.6, 19.3),
    "pixelate": (141.5, 120.8, 139.8, 7.2),
    "jpeg_compression": (140.7, 120.4, 139.9, 15.5),
}


def fixed_photograph():
    """Waves, ramps and an orange rectangle, 72 x 96."""
    y, x = np.mgrid[:72, :96] / 96
    waves = np.sin(40 * x * (1 + y)) * np.cos(25 * y)
    photo = np.stack([0.5 + 0.4 * waves, 0.2 + 0.6 * x, 0.8 - 0.5 * y], axis=-1)
    photo[20:50, 30:60] = (0.9, 0.3, 0.1)
    return np.rint(photo * 255).astype(np.uint8)


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def test_there_are_nineteen_kinds_of_five_severities():
    assert len(CORRUPTIONS) == len(GOLDEN) == 19
    assert {len(kind.parameters) for kind in CORRUPTIONS.values()} == {5}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_golden_values(name):
    photo = fixed_photograph()
    changed = corrupt(photo, name, 3, 7).astype(float)
    # a third of a level: libraries may round differently
    np.testing.assert_allclose([*changed.mean(axis=(0, 1)), np.abs(changed - photo).mean()], GOLDEN[name], atol=0.3)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (33, 7), (60, 90)])
def test_any_size_and_severity_keeps_shape_type_and_the_original(name, size):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    before = photo.copy()
    for severity in SEVERITIES:
        changed = corrupt(photo, name, severity, 0)
        assert changed.shape == photo.shape
        assert changed.dtype == np.uint8
        assert changed.flags.c_contiguous
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_photographs_survive(name, level):
    corrupt(np.full((40, 30, 3), level, np.uint8), name, 5, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_grey_is_a_photograph_of_three_equal_channels(name):
    grey = fixed_photograph()[..., 1]
    np.testing.assert_array_equal(corrupt(grey, name, 2, 3), corrupt(np.stack([grey] * 3, axis=-1), name, 2, 3))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_alone_decides_what_chance_does(name):
    photo = fixed_photograph()
    first = corrupt(photo, name, 3, 1)
    np.testing.assert_array_equal(first, corrupt(photo, name, 3, 1))
    assert np.array_equal(first, corrupt(photo, name, 3, 2)) == (name in WITHOUT_CHANCE)


def test_other_processes_draw_the_same_pixels():
    script = (
        "import sys, zlib, numpy as np\n"
        "from lexiseg.data.corruptions.corruptions import CORRUPTIONS, corrupt, image_seed\n"
        "photo = (np.arange(30 * 40 * 3) * 7 % 256).astype(np.uint8).reshape(30, 40, 3)\n"
        "for name in CORRUPTIONS: print(zlib.crc32(corrupt(photo, name, 4, image_seed('a.jpg')).tobytes()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    photo = (np.arange(30 * 40 * 3) * 7 % 256).astype(np.uint8).reshape(30, 40, 3)
    here = [zlib.crc32(corrupt(photo, name, 4, image_seed("a.jpg")).tobytes()) for name in CORRUPTIONS]
    assert [int(line) for line in done.stdout.split()] == here


@pytest.mark.parametrize(
    "name",
    [
        "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "defocus_blur",
        "motion_blur", "brightness", "contrast", "jpeg_compression",
    ],
)  # fmt: skip
def test_each_severity_is_farther_from_the_photograph(name):
    photo = fixed_photograph()
    distances = [psnr(photo, corrupt(photo, name, severity, 5)) for severity in SEVERITIES]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] - distances[-1] > 1  # decibels


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_bgr_hands_the_channels_over_in_reverse(name):
    photo = fixed_photograph()
    swapped = corrupt(photo[..., ::-1], name, 4, 5)[..., ::-1]
    np.testing.assert_array_equal(corrupt(photo, name, 4, 5, bgr=True), swapped)


def test_bgr_shows_only_where_colours_are_told_apart():
    photo = fixed_photograph()
    for name, differs in {"contrast": False, "gaussian_blur": False, "spatter": True, "jpeg_compression": True}.items():
        assert np.array_equal(corrupt(photo, name, 5, 5), corrupt(photo, name, 5, 5, bgr=True)) != differs


def test_texts_name_corruptions_and_severities():
    assert parse("gaussian_noise:3") == [("gaussian_noise", 3)]
    assert parse("fog, snow:2,4") == [("fog", 2), ("fog", 4), ("snow", 2), ("snow", 4)]
    assert parse("frost") == [("frost", severity) for severity in SEVERITIES]
    assert parse("all:1,5") == [(name, severity) for name in CORRUPTIONS for severity in (1, 5)]
    assert {name for name, _ in parse("maskclip:1")} == set(GROUPS["maskclip"]) <= set(CORRUPTIONS)
    assert parse("fog,fog:1,1") == [("fog", 1)]


@pytest.mark.parametrize("text", ["fog:6", "fog:0", "fog:", "fog:x", "fog:1.5", "fog:-1"])
def test_severities_outside_one_to_five_are_refused(text):
    with pytest.raises(SettingError):
        parse(text)


def test_a_mistyped_kind_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'gaussian_noise'"):
        parse("gausian_noise:1")
    with pytest.raises(UnknownName, match="spatter"):
        corrupt(fixed_photograph(), "splatter", 1, 0)


def test_what_is_no_photograph_is_refused():
    with pytest.raises(SettingError, match="no severity 7"):
        corrupt(fixed_photograph(), "fog", 7, 0)
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="cannot corrupt"):
            corrupt(wrong, "fog", 1, 0)


def test_the_seed_of_an_image_comes_from_its_name():
    assert image_seed("a.jpg") == image_seed("a.jpg") >= 0
    seeds = {image_seed(f"{index}.jpg", seed=seed) for index in range(100) for seed in (0, 1)}
    assert len(seeds) == 200
