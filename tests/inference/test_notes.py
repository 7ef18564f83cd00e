"""What a result says of its words."""

from __future__ import annotations

import pytest

from lexiseg.encoders.familiar import Familiar
from lexiseg.inference.notes import notes
from lexiseg.segmenter import Traits
from lexiseg.vocabulary import Vocabulary

NO_RULE = Traits()
KNOWN = Familiar(frozenset({"road", "sky"}), hints={})


def said(words: Vocabulary, traits: Traits = NO_RULE) -> tuple[str, ...]:
    return notes(words, KNOWN, traits)


def test_one_class_that_takes_every_pixel_is_said() -> None:
    (note,) = said(Vocabulary("road"))
    assert note.startswith("with one class and no background every pixel is 'road'; ")


@pytest.mark.parametrize(
    ("words", "traits"),
    [
        (Vocabulary("road, sky"), NO_RULE),
        (Vocabulary("road", background="sky"), NO_RULE),
        (Vocabulary("road"), Traits(background="own")),
    ],
)
def test_nothing_is_said_where_something_else_could_win(words: Vocabulary, traits: Traits) -> None:
    assert said(words, traits) == ()


def test_background_words_that_lexiseg_chose_are_not_warned_of() -> None:
    assert said(Vocabulary("road", background="auto")) == ()
    assert len(said(Vocabulary("road", background="sands, lagoon"))) == 1
    assert len(said(Vocabulary("sands, road"))) == 1


def test_weights_that_say_nothing_of_their_words_warn_of_none() -> None:
    assert notes(Vocabulary("lagoon, road"), None, NO_RULE) == ()
