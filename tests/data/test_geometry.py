"""A picture and its maps are cut, resized and mirrored alike."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lexiseg.data.geometry import Geometry, resize_labels
from lexiseg.data.labelled.dense import DenseAugmentation
from lexiseg.data.transforms import PairAugmentation, crop_box


def picture(height: int = 40, width: int = 50, seed: int = 0) -> Image.Image:
    smooth = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3), np.uint8)
    return Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC)


def coordinates(height: int, width: int) -> np.ndarray:
    """A map whose values say where they are."""
    return np.arange(height)[:, None] * 1000 + np.arange(width)


def ramp(height: int, width: int) -> Image.Image:
    """A picture whose colours say where they are: red grows to the right, green downwards."""
    levels = np.zeros((height, width, 3), np.uint8)
    levels[..., 0], levels[..., 1] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    return Image.fromarray(levels)


def test_the_whole_picture_at_another_size_is_torchs_antialiased_resize() -> None:
    image = picture(60, 60)
    ours = Geometry((0, 0, 60, 60), (20, 20)).picture(image)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    reference = torch.nn.functional.interpolate(pixels.float(), (20, 20), mode="bilinear", antialias=True)[0]
    assert np.abs(np.asarray(ours, float) - reference.permute(1, 2, 0).numpy()).max() <= 1


def test_the_part_is_cut_out_before_it_is_resized_and_what_is_kept_after() -> None:
    image = picture(64, 48)
    left, top, right, bottom = crop_box(48, 64, np.random.default_rng(3), area=(0.2, 0.6), ratio=(0.75, 4 / 3))
    part = Image.fromarray(np.asarray(image)[top:bottom, left:right]).resize((16, 12), Image.Resampling.BILINEAR)
    whole = Geometry((left, top, right, bottom), (12, 16))
    assert np.array_equal(whole.picture(image), part)
    some = Geometry((left, top, right, bottom), (12, 16), kept=(3, 2, 9, 8), mirror=True)
    assert np.array_equal(some.picture(image), np.asarray(part)[2:8, 3:9][:, ::-1])


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_map_has_the_value_whose_place_the_picture_shows(height: int, width: int, data: st.DataObject) -> None:
    """By brute force: the pixel of the photograph whose centre is nearest to that of each new one."""
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    size = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    mirror = data.draw(st.booleans())
    found = Geometry((left, top, right, bottom), size, mirror=mirror).map(coordinates(height, width))
    assert found.shape == size
    for row in range(size[0]):
        for column in range(size[1]):
            shown = size[1] - 1 - column if mirror else column
            y = top + (row + 0.5) * (bottom - top) / size[0]
            x = left + (shown + 0.5) * (right - left) / size[1]
            y_found, x_found = divmod(int(found[row, column]), 1000)
            assert y_found <= y <= y_found + 1 + 1e-9
            assert x_found <= x <= x_found + 1 + 1e-9


def test_what_is_kept_of_a_map_is_a_part_of_the_whole_one() -> None:
    whole, kept = Geometry((5, 2, 45, 38), (30, 20)), (4, 3, 18, 27)
    values = coordinates(40, 50)
    part = Geometry(whole.box, whole.size, kept).map(values)
    assert np.array_equal(part, whole.map(values)[3:27, 4:18])
    assert np.array_equal(Geometry(whole.box, whole.size, kept, mirror=True).map(values), part[:, ::-1])


def test_labels_are_resized_as_a_geometry_of_the_whole_does() -> None:
    values = coordinates(7, 9)
    assert np.array_equal(resize_labels(values, (3, 20)), Geometry((0, 0, 9, 7), (3, 20)).map(values))


@given(st.integers(0, 2**31))
def test_both_augmentations_move_maps_with_their_pictures(seed: int) -> None:
    """The colours of the picture and the values of the map say the same place, to a pixel or two of blur."""
    image, values = ramp(60, 90), coordinates(60, 90)
    pair = PairAugmentation(size=40, area=(0.3, 1.0), flip=0.5)
    dense = DenseAugmentation(crop=(40, 40), scale=(90, 60), flip=0.5, most_of_one=1.0)
    for geometry in (
        pair.draw(image, np.random.default_rng(seed)),
        dense.draw(np.zeros((60, 90), np.int64), np.random.default_rng(seed)),
    ):
        levels, places = np.asarray(geometry.picture(image), float), geometry.map(values)
        inner = (slice(2, -2), slice(2, -2))  # the border is blurred to one side
        assert np.abs(levels[..., 0] / 255 * 89 - places % 1000)[inner].max() < 2
        assert np.abs(levels[..., 1] / 255 * 59 - places // 1000)[inner].max() < 2
