"""A word has one spelling, however it was typed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.errors import VocabularyError
from lexiseg.words.entry import LONGEST, Entry, by_id, clean, shown

UNSEEN = ["\u200b", "\ufeff", "\x00", "\x07", "\u00ad", "\u2060", "\u202e", "\u200d", "\u200c"]


@pytest.mark.parametrize("unseen", UNSEEN)
def test_what_cannot_be_seen_is_left_out_wherever_it_stands(unseen: str) -> None:
    assert [clean(text, "x") for text in (unseen + "car", "c" + unseen + "ar", "car" + unseen)] == ["car"] * 3


def test_composed_and_decomposed_accents_are_one_spelling() -> None:
    assert clean("cafe\u0301", "x") == clean("caf\u00e9", "x") == "caf\u00e9"
    assert clean("e\u200b\u0301", "x") == "\u00e9"


def test_blanks_of_any_kind_are_one_blank() -> None:
    assert clean("\u00a0traffic \t\n light\u3000", "x") == "traffic light"


def test_joiners_stay_between_letters_and_signs_that_are_written_with_them() -> None:
    assert clean("\U0001f469\u200d\U0001f4bb", "x") == "\U0001f469\u200d\U0001f4bb"  # a woman with a computer
    assert clean("\u0645\u06cc\u200c\u0631\u0648\u0645\u200c", "x") == "\u0645\u06cc\u200c\u0631\u0648\u0645"


@given(st.text())
def test_cleaning_again_changes_nothing_and_equal_forms_stay_equal(text: str) -> None:
    try:
        cleaned = clean(text, "x")
    except VocabularyError:
        return
    assert clean(cleaned, "x") == cleaned == unicodedata.normalize("NFC", cleaned)
    assert clean(unicodedata.normalize("NFD", text), "x") == cleaned


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("", "blank"),
        ("\u200b", "blank"),
        (5, "5, which is a number"),
        (None, "None, which is null"),
        ("\udcff", "not text"),
        ("a" * (LONGEST + 1), "501 letters"),
    ],
)
def test_what_is_no_word_is_said(word: object, says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        clean(word, "class 1")


def test_all_classes_have_an_id_of_their_own_or_none() -> None:
    one, two, none = Entry("a", ("a",), 1), Entry("b", ("b",), 0), Entry("c", ("c",))
    assert by_id([one, two]) == [two, one]
    assert by_id([none]) == [none]
    with pytest.raises(VocabularyError, match="'c' has no id"):
        by_id([one, none])
    with pytest.raises(VocabularyError, match="'a' and 'd' have the same id 1"):
        by_id([one, Entry("d", ("d",), 1)])


def test_a_message_shows_little_of_what_is_large() -> None:
    nested: list[object] = []
    for _ in range(60):
        nested = [nested, nested]
    assert len(shown(nested)) < 200
    assert len(shown("a" * 10_000)) < 100
