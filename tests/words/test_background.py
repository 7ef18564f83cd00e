"""What `background="auto"` stands for."""

from __future__ import annotations

import pytest

from lexiseg.benchmarks._classes import background_words
from lexiseg.words.background import AUTO_BACKGROUND, auto_background


def test_the_list_is_the_published_one() -> None:
    assert background_words("sclip") == AUTO_BACKGROUND


def test_classes_that_are_not_in_it_leave_it_whole() -> None:
    assert auto_background(["banana", "dog"]) == AUTO_BACKGROUND


@pytest.mark.parametrize(
    ("asked", "gone"),
    [
        ("sky", {"sky", "cloud"}),
        ("Brick walls", {"wall"}),
        ("tall trees", {"tree", "wood"}),
        ("street", {"road"}),
        ("water", {"sea", "river"}),
        ("house", {"building"}),
        ("mountains", {"mountain", "hill"}),
        ("benches", set()),
        ("carpet", {"floor"}),
    ],
)
def test_a_word_gives_way_to_itself_in_a_phrase_and_to_words_for_the_same(asked: str, gone: set[str]) -> None:
    assert set(AUTO_BACKGROUND) - set(auto_background([asked])) == gone
