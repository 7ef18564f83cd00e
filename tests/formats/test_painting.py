"""Regions keep their colours whatever the photograph, lines lie between them, and what has no label looks so."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage
from skimage.color import deltaE_ciede2000, rgb2lab

from lexiseg.formats import painting
from lexiseg.formats.palette import TABLE, colours

Pixels = npt.NDArray[np.int64]
COLOURS = colours([f"class {i}" for i in range(8)])


def photograph(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def flat(*colour: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, colour)


def blobs(height: int, width: int, classes: int) -> npt.NDArray[np.uint8]:
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(classes + 1, height, width)), (0, 4, 4))
    labels = noise.argmax(0).astype(np.uint8)
    return np.where(labels == classes, 255, labels).astype(np.uint8)


def painted(
    labels: npt.NDArray[np.uint8 | np.uint16],
    photo: Image.Image | None,
    *,
    alpha: float = 0.6,
    table: npt.NDArray[np.uint8] = COLOURS,
) -> Pixels:
    shown = {label: (int(red), int(green), int(blue)) for label, (red, green, blue) in enumerate(table.tolist())}
    return np.asarray(painting.paint(photo, labels, shown, alpha=alpha)).astype(int)


def chroma(rgb: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    lab = rgb2lab(np.asarray(rgb, np.uint8)[None])[0]
    return np.hypot(lab[..., 1], lab[..., 2])


def columns(count: int) -> npt.NDArray[np.uint8]:
    """A column of four pixels for each class, so that each has pixels away from the lines."""
    return np.arange(count, dtype=np.uint8).repeat(4)[None].repeat(4, 0)


@pytest.mark.parametrize(("shade", "most"), [(0, 11), (128, 13), (255, 9)])
def test_colours_stay_apart_on_photographs_of_any_light(shade: int, most: int) -> None:
    labels = columns(len(TABLE))
    tints = painted(labels, flat(shade, shade, shade, size=labels.shape[::-1]), table=TABLE)[1, 1::4]
    lab = rgb2lab(tints[None].astype(np.uint8))[0]
    differences = deltaE_ciede2000(lab[:, None], lab[None]) + np.diag(np.full(len(TABLE), np.inf))
    assert differences.min() > most


def test_a_photograph_does_not_wash_colours_out() -> None:
    labels = columns(len(TABLE))
    tints = painted(labels, flat(128, 128, 128, size=labels.shape[::-1]), table=TABLE)[1, 1::4]
    assert (chroma(tints) / chroma(TABLE)).min() > 0.8  # blended with grey at the same alpha, 0.6


def test_the_photograph_lends_its_light_but_not_its_hue() -> None:
    labels = np.zeros((20, 30), np.uint8)
    red, green, white = (painted(labels, flat(*colour))[0, 0] for colour in [(255, 0, 0), (0, 130, 0), (255, 255, 255)])
    assert np.array_equal(red, green)  # both are 76 in grey
    assert (white > red).all()


def test_alpha_goes_from_the_grey_photograph_to_the_pure_colour() -> None:
    labels, photo = np.zeros((40, 40), np.uint8), photograph(40, 40)
    drawn = {alpha: painted(labels, photo, alpha=alpha) for alpha in (0, 0.3, 0.6, 0.9, 1)}
    distances = [np.abs(pixels - COLOURS[0].astype(int)).max() for pixels in drawn.values()]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] <= 1  # rounding
    assert np.ptp(drawn[0], axis=-1).max() <= 1  # grey


def test_lines_are_the_pixels_beside_another_label_and_darker_than_their_regions() -> None:
    labels = blobs(60, 80, 8)
    cross = ndimage.generate_binary_structure(2, 1)
    lowest, highest = (filter_(labels, footprint=cross) for filter_ in (ndimage.minimum_filter, ndimage.maximum_filter))
    beside, drawn = lowest != highest, painted(labels, flat(128, 128, 128, size=(80, 60)))
    for label in range(8):
        tones = {tuple(tone) for tone in drawn[(labels == label) & ~beside].tolist()}
        lines = {tuple(tone) for tone in drawn[(labels == label) & beside].tolist()}
        assert len(tones) == len(lines) == 1
        assert sum(*lines) < 0.6 * sum(*tones)


def test_pixels_without_a_label_are_the_photograph_in_grey_with_stripes() -> None:
    labels = np.full((40, 50), 255, np.uint8)
    drawn = painted(labels, flat(200, 30, 90, size=(50, 40)))
    assert np.ptp(drawn, axis=-1).max() <= 1
    dim, stripe = np.unique(drawn[..., 0])
    assert stripe - dim > 15
    assert 0.1 < (drawn[..., 0] == stripe).mean() < 0.5
    grey = np.asarray(photograph(40, 50).convert("L"))
    assert np.corrcoef(painted(labels, photograph(40, 50))[..., 0].ravel(), grey.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_no_colour_looks_like_pixels_without_a_label(shade: int) -> None:
    labels = columns(len(TABLE))
    tints = painted(labels, flat(shade, shade, shade, size=labels.shape[::-1]), table=TABLE)[1, 1::4]
    assert chroma(tints).min() > 12


def test_without_a_photograph_the_colours_are_pure() -> None:
    labels = columns(8)
    assert np.abs(painted(labels, None)[1, 1::4] - COLOURS.astype(int)).max() <= 1


def test_large_pictures_are_painted_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, photo = blobs(60, 80, 8), photograph(60, 80)
    whole = painted(labels, photo)
    monkeypatch.setattr(painting, "BLOCK", 7 * 80)
    assert np.array_equal(painted(labels, photo), whole)


def test_labels_of_16_bits_are_painted_like_those_of_8() -> None:
    labels, photo = blobs(60, 80, 8), photograph(60, 80)
    wide = np.where(labels == 255, 65_535, labels).astype(np.uint16)
    assert np.array_equal(painted(wide, photo), painted(labels, photo))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_a_picture_of_one_pixel_or_one_row_is_painted(size: tuple[int, int]) -> None:
    assert painted(np.zeros(size, np.uint8), photograph(*size)).shape == (*size, 3)
