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
from small_wordnet import write_wordnet

TOOLS = Path(__file__).parents[2] / "tools"

NAMES = [["animal"], ["cat"], ["lion"], ["person"], ["truck"], ["turtle"]]
MEANINGS = {"tiger": {"lion": 0.7, "cat": 0.5, "person": 0.3}, "lorry": {"truck": 0.5}, "terrapin": {"turtle": 0.6}}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("familiar_hints")
    finally:
        sys.path.remove(str(TOOLS))


def embed(words: Sequence[str]) -> np.ndarray:
    names = [one[0] for one in NAMES]
    rows = [
        np.eye(len(names))[names.index(word)]
        if word in names
        else [MEANINGS.get(word, {}).get(name, 0.0) for name in names]
        for word in words
    ]
    return np.array(rows, np.float32)


def test_the_nearest_relative_over_all_senses_is_offered(script: ModuleType, tmp_path: Path) -> None:
    hints = script.choose(script.Nouns.read(write_wordnet(tmp_path)), NAMES, frozenset({"tiger"}), embed)
    assert hints.pop("") == ["truce"]
    assert hints == {"lion": ["tiger"], "truck": ["lorry"], "turtle": ["terrapin"]}


def test_the_frequent_words_are_those_that_are_one_token(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "merges.gz").write_bytes(gzip.compress(b"#version\nt r\nc at</w>\nlor ry</w>\n"))
    assert script.frequent_words(tmp_path / "merges.gz") == {"cat", "lorry"}
