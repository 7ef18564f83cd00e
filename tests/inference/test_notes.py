"""What a result says of its words."""

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.encoders.familiar import Familiar
from lexiseg.inference.notes import notes
from lexiseg.vocabulary import Vocabulary

ROAD = np.zeros((2, 3), np.uint8)
PARTLY = np.array([[0, 255]], np.uint8)
KNOWN = Familiar(frozenset({"road", "sky"}), hints={})


def said(words: Vocabulary, labels: np.ndarray = PARTLY, *, own: bool = False) -> tuple[str, ...]:
    return notes(words, labels, familiar=KNOWN, own_background=own)


def test_one_class_that_takes_every_pixel_is_said() -> None:
    (note,) = said(Vocabulary("road"), ROAD)
    assert note.startswith("with one class and no background every pixel is 'road'; ")


@pytest.mark.parametrize(
    ("words", "labels", "own"),
    [
        (Vocabulary("road, sky"), ROAD, False),
        (Vocabulary("road", background="sky"), ROAD, False),
        (Vocabulary("road"), PARTLY, False),
        (Vocabulary("road"), ROAD, True),
    ],
)
def test_nothing_is_said_where_something_else_could_win(words: Vocabulary, labels: np.ndarray, own: bool) -> None:
    assert said(words, labels, own=own) == ()


def test_background_words_that_lexiseg_chose_are_not_warned_of() -> None:
    assert said(Vocabulary("road", background="auto")) == ()
    assert len(said(Vocabulary("road", background="sands, lagoon"))) == 1
    assert len(said(Vocabulary("sands, road"))) == 1


def test_weights_that_say_nothing_of_their_words_warn_of_none() -> None:
    assert notes(Vocabulary("lagoon, road"), ROAD, familiar=None, own_background=False) == ()
