"""Which words a model knows, and what it says of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.weights import find
from lexiseg.errors import WeightsError
from lexiseg.inference.familiar import NAMES, NOUNS, Familiar, read_familiar, write_familiar

FAMILIAR = Familiar(
    frozenset({"cat", "car", "traffic light", "wolf", "bicycle", "person"}),
    {"sedan": "car", "cherry": "cat", "golf ball": "ball"},
    {"tomcat": "cat", "whale": "cat"},
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


def test_a_warning_offers_the_spelling_then_the_meaning_then_nothing() -> None:
    spelt, meant, far = FAMILIAR.warnings(["bycicle", "tomcats", "mortgage"])
    assert spelt.startswith("'bycicle'")
    assert spelt.endswith("did you mean 'bicycle'?")
    assert meant.endswith("it does know 'cat'")
    assert "far from everything" in far


def test_a_model_that_only_lists_names_does_not_claim_to_know_what_is_far() -> None:
    (warning,) = Familiar(frozenset({"cat"})).warnings(["mortgage"])
    assert "no word that this model has learned" in warning
    assert "far" not in warning


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / NAMES).write_text(json.dumps({"names": [["Cat", "kitty"], ["dog"]]}))
    names_alone = read_familiar(tmp_path)
    assert names_alone is not None
    assert names_alone.names == {"cat", "kitty", "dog"}
    assert names_alone.taken is None
    write_familiar(tmp_path, {"cat": ["kitten"]}, {"dog": ["hound", "spaniel"]}, text_digest="x")
    familiar = read_familiar(tmp_path)
    assert familiar is not None
    assert familiar.taken == {"kitten": "cat"}
    assert familiar.astray == {"hound": "dog", "spaniel": "dog"}


def test_other_weights_say_nothing(tmp_path: Path) -> None:
    assert read_familiar(tmp_path) is None


@pytest.mark.parametrize("content", ["[]", "{}", '{"taken": [], "astray": {}}', "no json"])
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
