"""A recipe's names become an objective, and what it trained becomes a folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from types import ModuleType

import pytest
import toy
from torch import nn

from lexiseg import catalog
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError, UnknownName
from lexiseg.methods import simseg
from lexiseg.segmenter import Inference, Variant
from lexiseg.training.building import build
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights


@dataclass(frozen=True)
class Config:
    width: int = 2


@dataclass(frozen=True)
class Training:
    temperature: float = 0.07

    def build(self, segmenter, *, teacher=None):
        return Objective(segmenter, self, teacher)


class Segmenter(nn.Module):
    def __init__(self, config, weights):
        super().__init__()
        self.config, self.weights = config, weights
        self.layer = nn.Linear(config.width, config.width)


class Objective(nn.Module):
    def __init__(self, segmenter, settings, teacher):
        super().__init__()
        self.segmenter, self.settings, self.teacher = segmenter, settings, teacher


def recipe(**changes):
    return toy.recipe(**{"model": "lesson/big", "objective": Training(), **changes})


@pytest.fixture
def method(monkeypatch):
    """A method "lesson" on the shelf, with one variant whose weights are a hub id."""
    module = ModuleType("lexiseg.methods.lesson")
    module.Config = Config
    module.VARIANTS = {"big": Variant(Config(), Weights("hub", "hub/weights"), Inference(short_side=7))}
    module.load = lambda variant: Segmenter(variant.config, variant.weights)
    module.save = lambda segmenter, folder: (folder / "layer").write_text(str(segmenter.layer.in_features))
    real_names, real_get = catalog.names, catalog.get
    monkeypatch.setattr(catalog, "names", lambda shelf: [*real_names(shelf), "lesson"])
    monkeypatch.setattr(catalog, "get", lambda shelf, name: module if name == "lesson" else real_get(shelf, name))
    return module


def test_the_objective_gets_the_segmenter_and_its_settings(method):
    built = build(recipe(objective=Training(0.1)))
    assert built.objective.settings == Training(0.1)
    assert (built.objective.segmenter.config, built.objective.segmenter.weights) == (
        Config(2),
        Weights.of("hub/weights"),
    )
    assert built.objective.teacher is None


def test_config_and_weights_of_the_recipe_replace_the_variants(method):
    segmenter = build(recipe(config=Config(5), weights="mine")).objective.segmenter
    assert (segmenter.config, segmenter.weights) == (Config(5), Weights.of("mine"))
    assert build(recipe(from_scratch=True)).objective.segmenter.weights is None


def test_a_teacher_is_loaded_frozen_with_how_its_pictures_are_treated(method):
    teacher = build(recipe(teacher="lesson/big")).objective.teacher
    assert not teacher.segmenter.training
    assert not any(p.requires_grad for p in teacher.segmenter.parameters())
    assert teacher.inference.short_side == 7
    assert teacher.prompts == Prompts.open(teacher.inference.prompts)


def test_the_teachers_settings_reach_the_catalog(method):
    lesson = recipe(teacher="lesson/big", teacher_settings={"width": 4, "short_side": 9})
    teacher = build(lesson).objective.teacher
    assert (teacher.segmenter.config, teacher.inference.short_side) == (Config(4), 9)
    with pytest.raises(UnknownName, match="width"):
        build(recipe(teacher="lesson/big", teacher_settings={"wide": 4}))


@dataclass(frozen=True)
class Worded:
    """The config of a method that is trained on words."""

    words: str = ""
    width: int = 2

    def vocabulary(self) -> Vocabulary | None:
        return Vocabulary(self.words, background="auto") if self.words else None


def warned(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    caplog.clear()
    build(recipe(config=Worded(words), teacher="lesson/big"))
    return caplog.messages


def test_words_that_the_teacher_has_not_learned_are_said_before_training(method, caplog, tmp_path):
    (tmp_path / "concepts.json").write_text('{"names": [["cat"], ["truck"]]}')
    assert warned(caplog, "cat, lorry") == []  # the teacher's weights are the hub's, which say nothing
    method.VARIANTS["big"] = Variant(Config(), str(tmp_path), Inference())
    (said,) = warned(caplog, "cat, lorry")
    assert said.startswith("the words of lesson/big: the model has not learned 'lorry'")
    assert said.endswith("a word it knows: 'truck'")
    assert len(warned(caplog, ", ".join(f"zqx {place}" for place in range(300)))) == 1
    assert warned(caplog, "cat") == []
    assert warned(caplog, "") == []


def test_an_inference_hook_decides_how_the_model_is_used(method, tmp_path):
    built = build(recipe())
    built.objective.inference = lambda variant: dataclasses.replace(variant, short_side=variant.short_side + 1)
    built.save(tmp_path)
    assert json.loads((tmp_path / "lexiseg.json").read_text())["inference"]["short_side"] == 8


def test_the_folder_says_which_method_and_recipe_it_came_from(method, tmp_path):
    build(recipe(config=Config(3))).save(tmp_path)
    described = json.loads((tmp_path / "lexiseg.json").read_text())
    assert (described["method"], described["config"]) == ("lesson", {"width": 3})
    assert described["recipe"]["steps"] == 12
    assert described["inference"]["short_side"] == 7


def test_an_export_hook_decides_what_is_saved(method, tmp_path):
    built = build(recipe())
    built.objective.export = lambda: Segmenter(Config(9), None)
    built.save(tmp_path)
    assert (tmp_path / "layer").read_text() == "9"


def test_an_objective_of_another_method_is_refused(method):
    with pytest.raises(SettingError, match="simseg"):
        build(recipe(objective=simseg.Training()))
    with pytest.raises(SettingError, match="simseg"):
        build(recipe(config=simseg.Config()))


def test_an_unknown_model_is_answered_with_the_nearest(method):
    with pytest.raises(UnknownName, match="lesson/big"):
        build(recipe(model="lesson/bog"))
