"""Each word has its colour, and the colours stay apart for colour-blind eyes.

The colours were found with OKLab distances; here they are judged by CIEDE2000 on renderings written down separately.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from lexiseg.formats.palette import HOMES, TABLE, UNLABELLED, colours

Floats = npt.NDArray[np.float64]

# Machado, Oliveira & Fernandes (2009), severity 1.0, on linear RGB
MACHADO = {
    "protanopia": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998],
    "deuteranopia": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881],
    "tritanopia": [1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900],
}
# Vienot, Brettel & Mollon (1999): linear RGB to cones (long, middle, short), and the lost cone from the other two
CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
VIENOT = {
    "protanopia": [0, 2.02344, -2.52581, 0, 1, 0, 0, 0, 1],
    "deuteranopia": [1, 0, 0, 0.494207, 0, 1.24827, 0, 0, 1],
}


def linear(rgb: Floats) -> Floats:
    return np.asarray(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4))


def encoded(light: Floats) -> Floats:
    light = light.clip(0, 1)
    return np.asarray(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def seen_by(rgb: Floats, model: str, kind: str) -> Floats:
    """sRGB 0-1 [N, 3] as somebody without one kind of cone sees it."""
    if model == "machado":
        return encoded(linear(rgb) @ np.reshape(MACHADO[kind], (3, 3)).T)
    return encoded(linear(rgb) @ CONES.T @ np.reshape(VIENOT[kind], (3, 3)).T @ np.linalg.inv(CONES).T)


def smallest_difference(rgb: Floats) -> float:
    """CIEDE2000 of the closest two of sRGB colours 0-1 [N, 3]."""
    lab = rgb2lab(rgb[None])[0]
    pairs = np.array(list(itertools.combinations(range(len(lab)), 2)))
    return float(deltaE_ciede2000(lab[pairs[:, 0]], lab[pairs[:, 1]]).min())


EYES = [("machado", kind) for kind in MACHADO] + [("vienot", kind) for kind in VIENOT]
ALL = np.array([*TABLE, UNLABELLED]) / 255
FIRST = np.array([*TABLE[:HOMES], UNLABELLED]) / 255


@pytest.mark.parametrize(("model", "kind"), EYES)
def test_the_renderings_here_keep_white_and_grey(model: str, kind: str) -> None:
    greys = np.repeat(np.linspace(0, 1, 5)[:, None], 3, 1)
    assert np.allclose(seen_by(greys, model, kind), greys, atol=1e-3)


@pytest.mark.parametrize("model", ["machado", "vienot"])
def test_the_renderings_here_bring_red_and_green_together(model: str) -> None:
    red_and_green = np.array([[0.80, 0.36, 0.36], [0.55, 0.55, 0.30]])
    before = smallest_difference(red_and_green)
    assert smallest_difference(seen_by(red_and_green, model, "deuteranopia")) < before / 3


def test_colours_are_far_apart() -> None:
    assert smallest_difference(FIRST) > 12
    assert smallest_difference(ALL) > 5


@pytest.mark.parametrize(("model", "kind"), EYES)
def test_colours_are_far_apart_for_colour_blind_eyes(model: str, kind: str) -> None:
    assert smallest_difference(seen_by(FIRST, model, kind)) > 7
    assert smallest_difference(seen_by(ALL, model, kind)) > 3.5


def test_grey_means_unlabelled_alone() -> None:
    assert len(set(UNLABELLED)) == 1
    assert np.ptp(colours([f"word {i}" for i in range(500)]).astype(int), axis=1).min() > 30


words = st.lists(st.text(max_size=5), min_size=1, max_size=60, unique_by=str.casefold)


@given(words, st.text(max_size=5))
def test_a_word_added_at_the_end_changes_no_other_colour(vocabulary: list[str], word: str) -> None:
    assert np.array_equal(colours([*vocabulary, word])[:-1], colours(vocabulary))


@given(words)
def test_no_two_words_share_a_colour(vocabulary: list[str]) -> None:
    assert len(np.unique(colours(vocabulary), axis=0)) == len(vocabulary)


@given(words)
def test_a_word_keeps_its_colour_unless_an_earlier_one_has_the_same(vocabulary: list[str]) -> None:
    alone = [tuple(colours([word])[0]) for word in vocabulary]
    for place, colour in enumerate(colours(vocabulary)[:HOMES]):
        assert (tuple(colour) == alone[place]) == (alone[place] not in alone[:place])


@given(st.lists(st.text(max_size=5), min_size=len(TABLE), max_size=len(TABLE), unique_by=str.casefold))
def test_the_whole_table_is_used_before_anything_else(vocabulary: list[str]) -> None:
    assert {tuple(colour) for colour in colours(vocabulary)} == {tuple(colour) for colour in TABLE}


def test_capital_letters_make_no_difference() -> None:
    assert np.array_equal(colours(["Traffic Light"]), colours(["traffic light"]))


def test_colours_are_the_same_in_every_process_and_version() -> None:
    # golden: overlays of last year must go with those of today
    assert colours(["road", "car", "person", "sky"]).tolist() == [
        [240, 0, 144],
        [192, 64, 8],
        [176, 248, 232],
        [8, 240, 160],
    ]


def test_as_many_colours_as_a_label_map_has_classes() -> None:
    vocabulary = [f"word {i}" for i in range(65_535)]
    assert len(np.unique(colours(vocabulary), axis=0)) == 65_535
