"""Each word has its colour, and the colours stay apart, for colour-blind eyes too.

The colours are judged by scikit-image's CIEDE2000, on renderings written down separately.
"""

from __future__ import annotations

import colorsys
import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from lexiseg.formats.palette import ALIKE, EXPECTED, TABLE, UNLABELLED, colours

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
    """sRGB 0-1 [N, 3] as eyes without one kind of cone see it."""
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
OWN = {tuple(colour): row for row, colour in enumerate(TABLE.tolist())}


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
    assert smallest_difference(ALL) > 17.5


@pytest.mark.parametrize(("model", "kind"), EYES)
def test_colours_are_far_apart_for_colour_blind_eyes(model: str, kind: str) -> None:
    assert smallest_difference(seen_by(ALL, model, kind)) > 5


def test_grey_means_unlabelled_alone() -> None:
    assert len(set(UNLABELLED)) == 1
    assert np.ptp(colours([f"word {i}" for i in range(500)]).astype(int), axis=1).min() > 30


def vocabularies(most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.text(max_size=5) | st.sampled_from(sum(EXPECTED, ())), min_size=2, max_size=most, unique_by=fold)


def fold(word: str) -> str:
    return word.casefold()


@given(vocabularies(6))
def test_up_to_six_words_never_look_alike(vocabulary: list[str]) -> None:
    assert smallest_difference(colours(vocabulary) / 255) >= ALIKE == 24


@given(vocabularies(24))
def test_up_to_24_words_differ_clearly(vocabulary: list[str]) -> None:
    assert smallest_difference(colours(vocabulary) / 255) > 18


def test_the_words_of_part_5_of_the_faults_no_longer_share_a_hue() -> None:
    for vocabulary in (["cat", "blanket", "sofa"], ["motorcycle", "shelf"], ["grass", "road", "tree"]):
        assert smallest_difference(colours(vocabulary) / 255) >= ALIKE


things = st.lists(st.integers(0, 999).map("thing {}".format), min_size=1, max_size=16, unique=True)


@given(things)
def test_a_word_moves_only_where_its_colour_looks_like_that_of_an_earlier_one(vocabulary: list[str]) -> None:
    chosen = colours(vocabulary)
    for place, word in enumerate(vocabulary):
        (own,) = colours([word])
        alike = [smallest_difference(np.array([own, earlier]) / 255) < ALIKE for earlier in chosen[:place]]
        assert np.array_equal(chosen[place], own) or any(alike)


@given(vocabularies(23), st.integers())
def test_a_word_added_at_the_end_changes_no_other_colour(vocabulary: list[str], number: int) -> None:
    assert np.array_equal(colours([*vocabulary, f"thing {number}"])[:-1], colours(vocabulary))


@given(vocabularies(60))
def test_no_two_words_share_a_colour(vocabulary: list[str]) -> None:
    assert len(np.unique(colours(vocabulary), axis=0)) == len(vocabulary)


@given(things)
def test_words_with_an_expected_colour_have_it_in_any_vocabulary(vocabulary: list[str]) -> None:
    expected = [names[-1] for names in EXPECTED]
    assert np.array_equal(colours([*vocabulary, *expected])[-len(EXPECTED) :], TABLE[: len(EXPECTED)])


@pytest.mark.parametrize(
    ("word", "hues"),
    [("grass", (60, 150)), ("tree", (60, 160)), ("sky", (180, 250)), ("water", (180, 250)), ("earth", (10, 50))],
)
def test_nature_has_its_own_hues(word: str, hues: tuple[int, int]) -> None:
    hue = 360 * colorsys.rgb_to_hsv(*(colours([word])[0] / 255))[0]
    assert hues[0] < hue < hues[1]


@pytest.mark.parametrize(("name", "word"), [("Palm Trees", "tree"), ("green grass", "grass"), ("roads", "road")])
def test_the_last_word_of_a_name_decides_in_any_number(name: str, word: str) -> None:
    assert np.array_equal(colours([name]), colours([word]))
    assert not np.array_equal(colours(["tree frog"]), colours(["tree"]))


@given(st.lists(st.integers(0, 99), min_size=2, max_size=24, unique=True))
def test_of_many_words_those_that_come_first_differ_clearly(first: list[int]) -> None:
    vocabulary = [f"word {i}" for i in range(100)]
    chosen = colours(vocabulary, first)
    assert smallest_difference(chosen[first] / 255) > 18
    assert len(np.unique(chosen, axis=0)) == 100


def test_in_a_small_vocabulary_nothing_comes_first() -> None:
    vocabulary = [f"word {i}" for i in range(24)]
    assert np.array_equal(colours(vocabulary, [20, 3]), colours(vocabulary))


def test_the_whole_table_is_used_before_anything_else() -> None:
    chosen = colours([f"word {i}" for i in range(24)])
    assert {tuple(colour) for colour in chosen.tolist()} == set(OWN)


def test_capital_letters_make_no_difference() -> None:
    assert np.array_equal(colours(["Traffic Light"]), colours(["traffic light"]))


def test_colours_are_the_same_in_every_process_and_version() -> None:
    # golden: overlays of last year must go with those of today
    assert colours(["road", "car", "person", "sky"]).tolist() == [
        [152, 120, 168],
        [8, 184, 136],
        [248, 104, 104],
        [56, 184, 248],
    ]


def test_as_many_colours_as_a_label_map_has_classes() -> None:
    vocabulary = [f"word {i}" for i in range(65_535)]
    assert len(np.unique(colours(vocabulary), axis=0)) == 65_535
