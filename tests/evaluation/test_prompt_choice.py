"""The best sentence is chosen on training photographs and their seen classes: as measuring each on its own says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.pictures import noise
from lexiseg.benchmarks import _benchmark
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError, UnknownName
from lexiseg.evaluation.counting import Counting
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.prompt_choice import choose_prompt, seen_only
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.vocabulary import Vocabulary

SENTENCES = ("a photo of a {}.", "{} in a video game.", "the {}", "a sculpture of a {}.")
ON_CPU: Any = {"device": "cpu", "dtype": "fp32"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return noise(tmp_path / "data", 4, side=24)


@pytest.fixture
def sentences(tmp_path: Path) -> str:
    Prompts(SENTENCES).save(tmp_path / "sentences.txt")
    return str(tmp_path / "sentences.txt")


def setup(data: Any, **more: Any) -> Setup:
    return Setup(Model("maskclip/tiny", **ON_CPU, changes={"short_side": 48}), "folder", data, **more)


def test_the_order_is_that_of_measuring_each_on_its_own(data: Path, sentences: str) -> None:
    found = choose_prompt(setup(data), among=sentences)
    alone = {
        sentence: evaluate("maskclip/tiny", "folder", data=data, prompts=sentence, short_side=48, **ON_CPU)["miou"]
        for sentence in SENTENCES
    }
    assert len(set(alone.values())) > 1
    assert {one.sentence: one.scores["miou"].value for one in found.candidates} == pytest.approx(alone)
    assert found.best.sentence == max(SENTENCES, key=lambda sentence: alone[sentence])
    assert [one.scores["miou"].value for one in found.candidates] == sorted(alone.values(), reverse=True)
    assert found.images == 4


def test_another_score_may_decide_and_few_photographs_do(data: Path, sentences: str) -> None:
    found = choose_prompt(setup(data), among=sentences, score="pixel_accuracy", counting=Counting(limit=2))
    accuracies = [one.scores["pixel_accuracy"].value for one in found.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert found.images == 2
    with pytest.raises(SettingError, match="there is no score 'hiou' here; choose by miou"):
        choose_prompt(setup(data), among=sentences, score="hiou", counting=Counting(limit=1))


def test_photographs_with_one_split_get_a_warning(data: Path, sentences: str) -> None:
    (warning,) = choose_prompt(setup(data), among=sentences, counting=Counting(limit=1)).warnings
    assert "report scores on photographs that the sentence was not chosen on" in warning


@pytest.mark.parametrize("split", ["val", None])
def test_the_split_that_is_reported_is_refused(split: str | None, tmp_path: Path) -> None:
    """Before anything is opened; without a split it is the training split, which is not there."""
    asked = Setup(Model("maskclip/tiny", **ON_CPU), "voc_15_5", tmp_path, split=split)
    if split is None:
        with pytest.raises(Exception, match=r"voc_15_5 \(trainaug\) is not complete below"):
            choose_prompt(asked)
        return
    with pytest.raises(SettingError, match=r"reported on its split 'val', .* give split=trainaug"):
        choose_prompt(asked)


def test_one_sentence_or_learned_prompts_leave_nothing_to_choose(data: Path, tmp_path: Path) -> None:
    Prompts(context=torch.ones(2, 64)).save(tmp_path / "learned.safetensors")
    for among in ("single", "a {}", str(tmp_path / "learned.safetensors")):
        with pytest.raises(SettingError, match="leaves nothing to choose"):
            choose_prompt(setup(data), among=among)
    with pytest.raises(UnknownName, match="imagenet80"):
        choose_prompt(setup(data), among="imagenet8")


# --- seen classes alone


def zero_shot(data: Path, *seen: bool) -> Any:
    opened = _benchmark.open("folder", data)
    return replace(opened, vocabulary=Vocabulary(opened.vocabulary, seen=seen))


def test_unseen_classes_are_neither_asked_for_nor_scored(data: Path) -> None:
    opened = zero_shot(data, True, False, True)
    kept = seen_only(opened)
    assert kept.names == (opened.names[0], opened.names[2])
    for before, after in zip(opened.samples, kept.samples, strict=True):
        truth = before.truth()
        wanted = np.select([truth == 0, truth == 2], [0, 1], 255)
        np.testing.assert_array_equal(after.truth(), wanted)
        assert (truth == 1).any()
    assert kept.class_digest != opened.class_digest


def test_a_choice_on_seen_classes_does_not_depend_on_the_others(data: Path, sentences: str) -> None:
    opened = zero_shot(data, True, False, True)
    model = Model("maskclip/tiny", **ON_CPU, changes={"short_side": 48})
    found = choose_prompt(Setup(model, opened), among=sentences)
    alone = {
        sentence: evaluate("maskclip/tiny", seen_only(opened), prompts=sentence, short_side=48, **ON_CPU)["miou"]
        for sentence in SENTENCES
    }
    assert {one.sentence: one.scores["miou"].value for one in found.candidates} == pytest.approx(alone)


def test_a_benchmark_that_shows_everything_stays_as_it_is(data: Path) -> None:
    opened = _benchmark.open("folder", data)
    assert seen_only(opened) is opened
    everything = zero_shot(data, True, True, True)
    assert seen_only(everything) is everything


def test_a_background_is_seen_and_comes_last(data: Path) -> None:
    opened = zero_shot(data, True, False, True)
    opened = replace(opened, background=3)
    kept = seen_only(opened)
    assert kept.background == 2
    assert kept.names[-1] == "background"
    with pytest.raises(SettingError, match="has 1 seen classes"):
        seen_only(zero_shot(data, True, False, False))
