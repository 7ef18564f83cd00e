"""Synsets, their kinds and what names mean, on a small WordNet."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from small_wordnet import write_wordnet

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("wordnet")
    finally:
        sys.path.remove(str(TOOLS))


def test_kinds_and_their_steps_are_read(script: ModuleType, tmp_path: Path) -> None:
    nouns = script.Nouns.read(write_wordnet(tmp_path))
    assert nouns.senses["true cat"] == ("003",)
    assert nouns.kinds("003") == {"003": 0, "002": 1, "001": 2}
    assert nouns.finer["002"] == ["003", "004", "005"]


def test_likeness_is_wu_and_palmers(script: ModuleType, tmp_path: Path) -> None:
    nouns = script.Nouns.read(write_wordnet(tmp_path))
    assert nouns.likeness("003", "003") == 1
    assert nouns.likeness("003", "004") == pytest.approx(2 * 2 / (3 + 3))  # the feline, at depth 2 of 3 and 3
    assert nouns.likeness("003", "001") == pytest.approx(2 * 1 / (3 + 1))
    assert nouns.likeness("003", "008") == 0


def test_a_name_stands_for_the_animal_where_it_may(script: ModuleType, tmp_path: Path) -> None:
    nouns = script.Nouns.read(write_wordnet(tmp_path))
    assert script.name_of_each(nouns, [["cat"], ["turtle"]]) == {"003": "cat", "011": "turtle"}


def test_a_name_that_is_not_listed_means_its_last_word(script: ModuleType, tmp_path: Path) -> None:
    nouns = script.Nouns.read(write_wordnet(tmp_path))
    assert script.synsets_of(nouns, ["Fire truck"]) == ["008"]
    assert script.synsets_of(nouns, ["cats", "true cat"]) == ["003", "003"]
    assert script.synsets_of(nouns, ["qwertyuiop"]) == []
