"""A model set up by a protocol is the model that `lexiseg.load` gives, with the vocabulary of the benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import prepare
from lexiseg.vocabulary import Vocabulary


def test_which_words_a_model_knows_is_not_forgotten(two: Path) -> None:
    subject = prepare(Setup(Model("maskclip/mini", device="cpu"), "folder", two))
    assert subject.predictor.familiar is not None
    assert subject.predictor.familiar.knows("sheep")


def test_a_few_classes_are_asked_for_with_the_flags_of_all(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = prepare(Setup(Model("colours/plain", device="cpu", dtype="fp32"), "folder", two))
    object.__setattr__(subject, "vocabulary", Vocabulary("red, green, blue", seen=[True, False, True]))
    asked: list[Vocabulary] = []
    real = type(subject.predictor).ask

    def ask(self, words, **options):  # type: ignore[no-untyped-def]
        asked.append(words)
        return real(self, words, **options)

    monkeypatch.setattr(type(subject.predictor), "ask", ask)
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0], picture[0, 1], picture[1] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    labels = subject.own_words(subject.predictor.embed(picture), np.array([[2, 1], [1, 1]], np.uint8))
    assert labels is not None
    assert set(np.unique(labels)) <= {1, 2}
    assert (asked[-1].names, asked[-1].seen) == (("green", "blue"), (False, True))
