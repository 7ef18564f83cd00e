"""Words lie inside their regions, on every region that is large enough, and can be read on any ground."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy import ndimage

from lexiseg.formats import region_words
from lexiseg.formats.region_words import find, write

Labels = npt.NDArray[np.uint8]
TEXTS = {0: "road", 1: "sky", 2: "traffic light", 3: "a person", 255: "unlabelled"}


def blobs(seed: int, height: int, width: int, smooth: float) -> Labels:
    noise = np.random.default_rng(seed).normal(size=(5, height, width))
    labels = ndimage.gaussian_filter(noise, (0, smooth, smooth)).argmax(0)
    return np.where(labels == 4, 255, labels).astype(np.uint8)


def touched(labels: Labels, texts: dict[int, str]) -> npt.NDArray[np.bool_]:
    """Pixels that writing changes [H, W]."""
    grounds = [Image.new("RGB", labels.shape[::-1], colour) for colour in ((128, 128, 128), (90, 160, 200))]
    changed = np.zeros(labels.shape, bool)
    for ground in grounds:
        before = np.asarray(ground).copy()
        write(ground, labels, texts)
        changed |= (np.asarray(ground) != before).any(-1)
    return changed


@pytest.mark.parametrize(("seed", "size", "smooth"), [(0, (300, 400), 15), (1, (300, 400), 30), (2, (200, 600), 25)])
def test_every_letter_lies_on_a_region_of_its_class(seed: int, size: tuple[int, int], smooth: float) -> None:
    _check_letters(blobs(seed, *size, smooth))


def test_letters_lie_on_their_regions_in_large_pictures_too() -> None:
    _check_letters(blobs(0, 220, 280, 12).repeat(7, 0).repeat(7, 1))


def _check_letters(labels: Labels) -> None:
    changed = {label: touched(labels, {label: text}) for label, text in TEXTS.items()}
    assert sum(pixels.any() for pixels in changed.values()) >= 3  # a class may have no large region
    for label, pixels in changed.items():
        assert (labels[pixels] == label).all()


def test_words_keep_a_margin_and_their_boxes_hold_one_region() -> None:
    labels = blobs(3, 400, 600, 20)
    words = find(labels, TEXTS, 12)
    assert len(words) > 10
    for word in words:
        left, top, right, bottom = word.box
        inside = labels[top - 1 : bottom + 1, left - 1 : right + 1]
        assert inside.shape == (bottom - top + 2, right - left + 2)  # nothing past the rim of the picture
        assert {TEXTS[int(label)] for label in np.unique(inside)} == {word.text}


def test_a_ring_has_its_word_on_the_ring_and_not_in_the_hole() -> None:
    y, x = np.indices((300, 300)) - 150
    far = np.hypot(y, x)
    ring = np.where(far < 80, 1, np.where(far < 140, 0, 255)).astype(np.uint8)
    (word,) = find(ring, {0: "road"}, 12)
    assert ring[word.y, word.x] == 0


def test_two_regions_of_a_class_have_a_word_each() -> None:
    labels = np.ones((100, 300), np.uint8)
    labels[:, :100] = labels[:, 200:] = 0
    assert sorted(word.x // 100 for word in find(labels, {0: "road"}, 12)) == [0, 2]


def test_a_region_too_small_for_its_word_has_none() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[50:60, 50:80] = 1  # room for a few letters
    labels[100:104] = 2  # wide but too low
    assert {word.text for word in find(labels, TEXTS, 12)} == {"road"}


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_tiny_pictures_have_no_words(size: tuple[int, int]) -> None:
    assert find(np.zeros(size, np.uint8), TEXTS, 12) == []


def test_letters_are_larger_on_larger_regions() -> None:
    labels = np.zeros((300, 400), np.uint8)
    labels[200:240, 20:120] = 1
    large, small = (word.box[3] - word.box[1] for word in find(labels, {0: "road", 1: "road"}, 12))
    assert large > 1.3 * small


def test_a_word_stands_deep_in_its_region() -> None:
    labels = np.ones((200, 300), np.uint8)
    labels[20:180, 100:280] = 0
    labels[20:60, 20:100] = 0  # an arm to the left
    (word,) = find(labels, {0: "road"}, 12)
    assert (abs(word.x - 190) < 30, abs(word.y - 100) < 30) == (True, True)


def test_thousands_of_regions_have_a_limited_number_of_words() -> None:
    labels = np.indices((640, 640)).sum(0) % 2  # a chequerboard
    assert find(labels.astype(np.uint8), TEXTS, 12) == []
    tiles = (np.arange(640)[:, None] // 40 + np.arange(640) // 40) % 2
    assert len(find(tiles.astype(np.uint8), {0: "a", 1: "b"}, 12)) == region_words.MOST


def test_labels_of_16_bits_and_the_largest_of_them_are_written() -> None:
    labels = np.array([846, 65_535], np.uint16).repeat(200)[None].repeat(100, 0)
    assert {word.text for word in find(labels, {846: "road", 65_535: "unlabelled"}, 12)} == {"road", "unlabelled"}


@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), (255, 255, 0), (128, 128, 128)])
def test_words_are_read_on_any_ground(ground: tuple[int, int, int]) -> None:
    picture = Image.new("RGB", (200, 100), ground)
    write(picture, np.zeros((100, 200), np.uint8), TEXTS)
    light = np.asarray(picture.convert("L")).astype(int)
    assert np.ptp(light[30:70, 50:150]) > 200  # letters and their rim, whatever is below
    assert (light > 240).any()
    assert (light < 40).any()
