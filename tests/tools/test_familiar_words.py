"""Which nouns count as known, on a text tower and a sentence encoder that are tables."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from small_wordnet import write_wordnet

from lexiseg.data.mini.concepts import gather_concepts
from lexiseg.data.mini.meanings import Words
from lexiseg.encoders.familiar import Familiar
from lexiseg.errors import DataError

TOOLS = Path(__file__).parents[2] / "tools"
NAMES = [["cat", "kitty"], ["tabby"], ["car"], ["tree"]]  # a tabby is a cat: `data.concepts.COARSER`
AXES = torch.eye(8)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("familiar_words")
    finally:
        sys.path.remove(str(TOOLS))


class Tower:
    """Puts concepts on axes of their own, and other words where it is told, or on an axis that nobody else has."""

    def __init__(self, **words: str) -> None:
        self.words = words

    def embed_words(self, words, prompts):
        place = {one[0]: at for at, one in enumerate(NAMES)}
        return torch.stack([AXES[place.get(self.words.get(word, word), 7)] for word in words])


def meanings(script: ModuleType, **nouns: str):
    concepts = gather_concepts(NAMES)
    place = {one[0]: at for at, one in enumerate(NAMES)}
    vectors = np.stack([AXES[place.get(name, 6)].numpy() for name in nouns.values()]).astype(np.float16)
    return script.Meanings(Words(concepts, tuple(nouns), vectors), AXES[: len(NAMES)].numpy())


def test_a_noun_is_taken_where_the_model_puts_it_at_what_it_means_or_at_a_relative(script: ModuleType) -> None:
    words = meanings(script, kitten="cat", tomcat="cat", sedan="car", mortgage="nothing")
    taken = script.sort_nouns(Tower(kitten="cat", tomcat="tabby", sedan="tree", mortgage="car"), NAMES, words, near=0.4)
    assert taken == {"cat": ["kitten", "tomcat"]}


def test_only_words_that_mean_something_like_their_concept_stay(script: ModuleType, tmp_path: Path) -> None:
    nouns = script.Nouns.read(write_wordnet(tmp_path))
    tower = Tower(tiger="cat", lion="car", lorry="cat")
    assert script.alike(tower, NAMES, ["tiger", "lion", "lorry", "qwertyuiop"], nouns) == {"cat": ["tiger"]}


def test_words_of_other_concepts_are_refused(script: ModuleType) -> None:
    with pytest.raises(DataError, match="other concepts"):
        script.sort_nouns(Tower(), [["piano"]], meanings(script, kitten="cat"), near=0.4)


def test_the_area_under_the_curve_is_scikit_learns(script: ModuleType) -> None:
    random = np.random.default_rng(0)
    score, positive = np.round(random.random(200), 1), random.random(200) < 0.3
    assert script._area(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-3)


def test_a_list_that_holds_what_the_model_does_right_separates_perfectly(script: ModuleType) -> None:
    tower = Tower(kitten="cat", tomcat="tree", sedan="car")
    found = script.separation(
        tower, NAMES, Familiar(frozenset({"cat", "car", "tree"}), {"kitten": "cat", "sedan": "car"})
    )
    assert found["of them right"] == 2 == found["right and known"]
    assert found["right or not, by the list"] == 1
    assert found["visible or not, by cosine"] < 1
