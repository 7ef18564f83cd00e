"""OKLab as the CSS Color 4 specification gives it."""

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.formats import oklab


@pytest.mark.parametrize(
    ("colour", "lab"),
    [
        ((255, 255, 255), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
        ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
        ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    ],
)
def test_known_colours_have_their_known_places(colour: tuple[int, ...], lab: tuple[float, ...]) -> None:
    assert np.allclose(oklab.from_srgb(np.array(colour, np.uint8)), lab, atol=1e-4)


def test_there_and_back_gives_the_same_colours() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (500, 3), np.uint8)
    assert np.array_equal(oklab.to_srgb(oklab.from_srgb(colours)), colours)


def test_what_no_screen_shows_is_cut() -> None:
    assert oklab.to_srgb(np.array([[2.0, 0, 0], [0.5, 0.9, 0.9]])).tolist()[0] == [255, 255, 255]
