"""Which word is offered for a noun, on a small WordNet and a sentence encoder that is a table."""

from __future__ import annotations

import gzip
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"

# key, area, words, kinds; in the order of the file
SYNSETS = [
    ("001", "05", ["animal"], []),
    ("002", "05", ["feline"], ["001"]),
    ("003", "05", ["cat", "true cat"], ["002"]),
    ("004", "05", ["lion"], ["002"]),
    ("005", "05", ["tiger"], ["002"]),
    ("006", "18", ["person"], []),
    ("007", "18", ["tiger"], ["006"]),
    ("008", "06", ["truck"], []),
    ("009", "06", ["lorry"], ["008"]),
    ("010", "06", ["turtle", "pullover"], []),
    ("011", "05", ["turtle"], ["001"]),
    ("012", "05", ["terrapin"], ["011"]),
    ("013", "04", ["pettiness"], ["001"]),
    ("014", "06", ["truce"], []),
]
SENSES = {"tiger": ["007", "005"], "turtle": ["010", "011"]}
NAMES = [["animal"], ["cat"], ["lion"], ["person"], ["truck"], ["turtle"]]
MEANINGS = {"tiger": {"lion": 0.7, "cat": 0.5, "person": 0.3}, "lorry": {"truck": 0.5}, "terrapin": {"turtle": 0.6}}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("familiar_hints")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    lines = ["  1 a licence"]
    senses: dict[str, list[str]] = {}
    for key, area, words, kinds in SYNSETS:
        cells = [key, area, "n", f"{len(words):02x}", *(f"{word.replace(' ', '_')} 0" for word in words)]
        cells += [f"{len(kinds) + 1:03}", *(f"@ {kind} n 0000" for kind in kinds), "~ 999 n 0000"]
        lines.append(" ".join(cells) + " | a gloss, @ 001 n")
        for word in words:
            senses.setdefault(word, []).append(key)
    (tmp_path / "data.noun").write_text("\n".join(lines) + "\n", encoding="latin-1")
    rows = ["  1 a licence"]
    for word, own in (senses | SENSES).items():
        rows.append(f"{word.replace(' ', '_')} n {len(own)} 1 @ {len(own)} 0 {' '.join(own)}")
    (tmp_path / "index.noun").write_text("\n".join(rows) + "\n", encoding="latin-1")
    return tmp_path


def embed(words: Sequence[str]) -> np.ndarray:
    names = [one[0] for one in NAMES]
    rows = [
        np.eye(len(names))[names.index(word)]
        if word in names
        else [MEANINGS.get(word, {}).get(name, 0.0) for name in names]
        for word in words
    ]
    return np.array(rows, np.float32)


def test_kinds_and_their_steps_are_read_from_wordnet(script: ModuleType, wordnet: Path) -> None:
    nouns = script.Nouns.read(wordnet)
    assert nouns.senses["true cat"] == ("003",)
    assert nouns.kinds("003") == {"003": 0, "002": 1, "001": 2}
    assert nouns.finer["002"] == ["003", "004", "005"]


def test_a_name_stands_for_the_animal_where_it_may(script: ModuleType, wordnet: Path) -> None:
    assert script.name_of_each(script.Nouns.read(wordnet), NAMES)["011"] == "turtle"


def test_the_nearest_relative_over_all_senses_is_offered(script: ModuleType, wordnet: Path) -> None:
    hints = script.choose(script.Nouns.read(wordnet), NAMES, frozenset({"tiger"}), embed)
    assert hints.pop("") == ["truce"]
    assert hints == {"lion": ["tiger"], "truck": ["lorry"], "turtle": ["terrapin"]}


def test_the_frequent_words_are_those_that_are_one_token(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "merges.gz").write_bytes(gzip.compress(b"#version\nt r\nc at</w>\nlor ry</w>\n"))
    assert script.frequent_words(tmp_path / "merges.gz") == {"cat", "lorry"}
