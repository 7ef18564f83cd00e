"""Which words a model knows, and what is said of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.familiar import NAMES, NOUNS, Familiar, familiar_with, read_familiar, write_familiar
from lexiseg.encoders.weights import find
from lexiseg.errors import WeightsError

FAMILIAR = Familiar(
    frozenset({"cat", "car", "traffic light", "wolf", "bicycle", "person"}),
    {"sedan": "car", "cherry": "cat", "golf ball": "ball"},
    {"tomcat": "cat", "whale": "fish", "caddie": "", "persona": ""},
)


KNOWN = (
    "cat, Cat,  traffic  light , cats, cherries, wolves, a red car, parked red cars, sedan, my golf ball, "
    "traffic lights at night, person with an umbrella, a cat in the hat"
)


@pytest.mark.parametrize("word", KNOWN.split(","))
def test_names_nouns_plurals_and_phrases_about_them_are_known(word: str) -> None:
    assert FAMILIAR.knows(word)
    assert FAMILIAR.warnings([word]) == ()


@pytest.mark.parametrize("word", ["tomcat", "mortgage", "catalogue", "light", "car mortgage", "owner of a car", "s"])
def test_other_words_are_not_known(word: str) -> None:
    assert not FAMILIAR.knows(word)


def test_a_warning_offers_the_meaning_then_the_spelling_then_nothing() -> None:
    meant, spelt, neither = FAMILIAR.warnings(["black tomcats", "bycicle", "mortgage"])
    assert meant == ("the model has not learned 'black tomcats', so treat its pixels with care; a word it knows: 'cat'")
    assert spelt == "the model has not learned 'bycicle'; did you mean 'bicycle'?"
    assert neither == "the model has not learned 'mortgage', so treat its pixels with care"


def test_no_word_is_offered_that_the_model_does_not_know_itself() -> None:
    assert FAMILIAR.instead("whale") is None


def test_a_noun_that_looks_like_a_misspelt_name_is_none() -> None:
    assert FAMILIAR.misspelt("persom") == "person"
    assert FAMILIAR.misspelt("persona") is None


def test_many_unknown_words_are_one_sentence_with_a_count_and_the_first_of_them() -> None:
    words = [f"zqx{number}" for number in range(300)]
    (warning,) = FAMILIAR.warnings(["cat", *words, *words])
    assert "300 of the 301 words ('zqx0', 'zqx1', 'zqx2', 'zqx3', ...)" in warning
    assert len(FAMILIAR.warnings(words[:4])) == 4


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / NAMES).write_text(json.dumps({"names": [["Cat", "kitty"], ["dog"]]}))
    names_alone = read_familiar(tmp_path)
    assert names_alone is not None
    assert names_alone.names == {"cat", "kitty", "dog"}
    assert names_alone.taken is None
    write_familiar(tmp_path, {"cat": ["kitten", "tom"]}, text_digest="x")
    familiar = read_familiar(tmp_path)
    assert familiar is not None
    assert familiar.taken == {"kitten": "cat", "tom": "cat"}


def test_other_weights_say_nothing(tmp_path: Path) -> None:
    assert read_familiar(tmp_path) is None


@pytest.mark.parametrize("content", ["[]", "{}", '{"taken": []}', "no json"])
def test_a_damaged_list_is_said(content: str, tmp_path: Path) -> None:
    (tmp_path / NAMES).write_text(json.dumps({"names": [["cat"]]}))
    (tmp_path / NOUNS).write_text(content)
    with pytest.raises(WeightsError, match="copy"):
        read_familiar(tmp_path)


@given(st.text(max_size=40))
def test_any_text_is_answered(word: str) -> None:
    assert len(FAMILIAR.warnings([word])) == (not FAMILIAR.knows(word))


def test_the_embedded_model_knows_its_own_names_and_not_what_nobody_can_photograph() -> None:
    familiar = read_familiar(find(EMBEDDED))
    assert familiar is not None
    assert all(map(familiar.knows, ("cat", "sky", "sheep", "mountains", "traffic light")))
    assert not any(map(familiar.knows, ("mortgage", "parliament", "neutrino", "arithmetic")))


def test_the_embedded_models_nouns_were_sorted_for_its_text_tower() -> None:
    path = find(EMBEDDED) / NOUNS
    if not path.is_file():
        pytest.skip("the embedded model has no list of nouns")
    content = json.loads(path.read_text())
    assert content["text_digest"] == Clip.load(EMBEDDED).text_digest(), "run tools/familiar_words.py for it again"


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("lorry", "truck"),
        ("pedestrian", "person"),
        ("taxi", "car"),
        ("tiger", "lion"),
        ("moped", "motorcycle"),
        ("two cottages", "house"),
        ("coach", "person"),
    ],
)
def test_the_embedded_models_hints_go_by_meaning(word: str, known: str) -> None:
    for name in (EMBEDDED, "asset:simseg-mini"):
        familiar = familiar_with(name)
        assert familiar is not None
        assert familiar.instead(word) == known


def test_words_without_a_relative_get_no_hint() -> None:
    familiar = familiar_with(EMBEDDED)
    assert familiar is not None
    for word in ("qwertyuiop", "mortgage", "neutrino", "saucer", "parliament"):
        assert familiar.misspelt(word) is None
        assert familiar.instead(word) is None


def test_weights_of_the_hub_and_none_at_all_say_nothing() -> None:
    assert familiar_with(None) is None
    assert familiar_with("openai/clip-vit-base-patch16") is None
