"""Stages have names, refer to each other, and are changed together or one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import toy

from lexiseg.errors import CheckpointError, SettingError, TrainingError, UnknownName
from lexiseg.training import stages
from lexiseg.training.recipe import Labelling


@dataclass(frozen=True)
class Labelled(toy.ToyData):
    pseudo_labels: str | None = None


GUESS = Labelling(name="guess", teacher="@first", data=toy.ToyData())
THREE = (toy.recipe(name="first"), GUESS, toy.recipe(weights="@first", data=Labelled(pseudo_labels="@guess")))


def test_a_stage_without_a_name_is_called_by_its_number():
    assert [stages.name_of(THREE, number) for number in range(3)] == ["first", "guess", "stage-3"]


def test_the_last_model_is_that_of_the_run_and_the_others_are_in_folders_of_their_own():
    places = [stages.place_of(THREE, number, Path("run")).as_posix() for number in range(3)]
    assert places == ["run/first/model", "run/guess/labels", "run/model"]


def test_references_become_folders(tmp_path):
    (tmp_path / "first" / "model").mkdir(parents=True)
    (tmp_path / "guess" / "labels").mkdir(parents=True)
    last = stages.resolve(THREE, 2, tmp_path)
    assert (last.weights, last.data.pseudo_labels) == (f"{tmp_path}/first/model", f"{tmp_path}/guess/labels")
    assert stages.resolve(THREE, 1, tmp_path).teacher == f"{tmp_path}/first/model"
    assert stages.resolve(THREE, 0, tmp_path) is THREE[0]


def test_a_folder_that_has_gone_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"teacher=@first is not in .*first/model"):
        stages.resolve(THREE, 1, tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ((THREE[0], GUESS, replace(THREE[2], weights="@frist")), r"weights=@frist .* those are @first, @guess"),
        ((THREE[0], GUESS, replace(THREE[2], teacher="@stage-3")), r"teacher=@stage-3 is not a stage before this one"),
        ((replace(THREE[0], weights="@guess"), *THREE[1:]), "none, since it is the first"),
        ((THREE[0], GUESS, replace(THREE[2], weights="@guess")), "makes label maps, and a model is needed"),
        ((THREE[0], GUESS, replace(THREE[2], data=Labelled(pseudo_labels="@first"))), "makes a model, and label maps"),
        (THREE[:2], "the last stage must train"),
        ((), "the last stage must train"),
        ((replace(THREE[0], name="model"), THREE[2]), "cannot be called 'model'"),
        ((replace(THREE[0], name="a/b"), THREE[2]), "cannot be called 'a/b'"),
        ((THREE[0], replace(THREE[0], weights=None)), "cannot be called 'first'"),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused(changed, says):
    with pytest.raises(SettingError, match=says):
        stages.check(changed)


def test_a_change_reaches_every_stage_that_has_the_setting():
    changed = stages.change(THREE, {"steps": "3", "confidence": "0.5", "@first.seed": "9"})
    assert [getattr(stage, "steps", None) for stage in changed] == [3, None, 3]
    assert changed[1].confidence == 0.5
    assert [getattr(stage, "seed", None) for stage in changed] == [9, None, 0]


def test_a_change_that_no_stage_knows_is_told():
    with pytest.raises(UnknownName, match="'steps'"):
        stages.change((toy.recipe(config=toy.ToyData()),), {"stpes": 3})
    with pytest.raises(UnknownName, match=r"no stage is called 'frist'.*'first'"):
        stages.change(THREE, {"@frist.seed": 1})


def test_versions_are_the_recipes_of_a_file_in_any_number_of_stages():
    module = ModuleType("recipes")
    module.TOY, module.MINI, module.WORDS, module._HIDDEN = toy.recipe(), THREE, ("cat", "dog"), toy.recipe()
    assert stages.versions(module) == {"toy": (toy.recipe(),), "mini": THREE}


def test_weights_are_handed_over_by_name_and_shape():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    stages.hand_over({"weight": one.weight.detach()}, other)
    assert torch.equal(other.weight, one.weight)
    assert not torch.equal(other.bias, one.bias)
    with pytest.raises(TrainingError, match=r"weight is \[2, 2\] after the stage before, and here \[3, 2\]"):
        stages.hand_over({"weight": one.weight.detach()}, torch.nn.Linear(2, 3))


def test_a_confidence_that_is_not_a_posterior_is_refused():
    with pytest.raises(SettingError, match="confidence is 2"):
        replace(GUESS, confidence=2.0)
