"""Recipes are changed by name, checked, and compared."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import toy

from lexiseg import catalog
from lexiseg.errors import SettingError, UnknownName
from lexiseg.training.recipe import Group, Optimiser, Recipe, change, check, describe, differences


@dataclass(frozen=True)
class Settings:
    words: str = "cat"
    temperature: float = 0.07


@dataclass(frozen=True)
class Config:
    image_k: int = 5


def test_nested_settings_are_changed_by_name_and_read_as_their_type():
    changed = change(toy.recipe(), {"optimiser.rate": "3e-4", "steps": "7", "precision": "bf16", "ema": "none"})
    assert (changed.optimiser.rate, changed.steps, changed.precision, changed.ema) == (3e-4, 7, "bf16", None)
    assert toy.recipe().steps == 12  # the original stays


def test_groups_are_given_as_json():
    changed = change(toy.recipe(), {"groups": '[{"names": ["*.bias"], "weight_decay": 0.0}]'})
    assert changed.groups == (Group(("*.bias",), weight_decay=0.0),)


def test_a_misspelt_setting_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match=r"rate\b"):
        change(toy.recipe(config=Config()), {"optimiser.rat": 1})


def test_a_value_of_the_wrong_type_is_refused():
    with pytest.raises(SettingError, match="steps='many'"):
        change(toy.recipe(), {"steps": "many"})


def test_short_names_reach_the_objective_the_data_and_the_config():
    start = toy.recipe(objective=Settings(), config=Config())
    changed = change(start, {"words": "dog", "samples": 3, "image_k": 1})
    assert (changed.objective.words, changed.data.samples, changed.config.image_k) == ("dog", 3, 1)


def test_a_name_that_two_parts_have_must_say_which():
    both = toy.recipe(objective=Settings(), config=Settings())
    with pytest.raises(SettingError, match=r"write objective\.words or config\.words"):
        change(both, {"words": "dog"})
    assert change(both, {"config.words": "dog"}).config.words == "dog"


def test_a_group_of_settings_is_not_changed_as_a_whole():
    with pytest.raises(SettingError, match=r"data='photos' does not fit: .* change one of them, for example data\.sam"):
        change(toy.recipe(), {"data": "photos"})
    assert change(toy.recipe(), {"data": toy.ToyData(9)}).data.samples == 9


def test_the_config_is_filled_in_from_the_variant_where_it_is_changed(monkeypatch):
    variant = dataclasses.make_dataclass("Variant", [("config", object)])(Config(image_k=9))
    monkeypatch.setattr(catalog, "resolve", lambda model, *, weights: (None, variant))
    assert change(toy.recipe(), {"config.image_k": 2}).config == Config(2)
    assert change(toy.recipe(), {"image_k": 2}).config == Config(2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"cache": 0}, "cache"),
        ({"ema": 1.0}, "ema"),
        ({"clip": 0.0}, "clip"),
        ({"max_bad_fraction": 2.0}, "max_bad_fraction"),
    ],
)
def test_values_out_of_range_are_refused_by_name(changes, named):
    with pytest.raises(SettingError, match=rf"^{named} is"):
        toy.recipe(**changes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimiser.rate", -1),
        ("optimiser.rate", "nan"),
        ("optimiser.weight_decay", -0.1),
        ("optimiser.betas", (0.9, 1.0)),
        ("optimiser.momentum", 1),
        ("schedule.warmup", 1.5),
        ("schedule.floor", -0.1),
    ],
)
def test_numbers_of_the_optimiser_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(SettingError, match=rf"^{key} must be .*, got"):
        change(toy.recipe(), {key: value})


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(SettingError, match="2 processes"):
        check(toy.recipe(batch_size=7), world=2)
    with pytest.raises(SettingError, match="exclude"):
        check(toy.recipe(cache=2, accumulate=2))
    with pytest.raises(SettingError, match="embed"):
        check(toy.recipe(cache=2), contrastive=False)
    with pytest.raises(SettingError, match="accumulate 9"):
        check(toy.recipe(accumulate=9))
    with pytest.raises(SettingError, match="batchnorm_batches"):
        check(toy.recipe(batchnorm_batches=9))


def test_a_description_is_json_and_says_what_each_part_is():
    described = describe(toy.recipe(data=Path("photos"), objective=Settings()))
    assert json.loads(json.dumps(described)) == described
    assert (described["kind"], described["objective"]["kind"], described["data"]) == ("Recipe", "Settings", "photos")


def test_differences_name_what_can_change_the_result_and_nothing_else():
    old = toy.recipe()
    new = dataclasses.replace(old, optimiser=Optimiser(rate=0.1), keep=7, log_every=1, groups=(Group(("*",)),))
    lines = differences([describe(old)], [describe(new)])
    assert any(line == "optimiser.rate: 0.01 -> 0.1" for line in lines)
    assert any(line.startswith("groups") for line in lines)
    assert not any("keep" in line or "log_every" in line for line in lines)
    assert differences([describe(old)], [describe(old)]) == []


def test_differences_name_the_stage():
    old, new = toy.recipe(), toy.recipe(steps=99)
    assert differences([describe(old), describe(old)], [describe(old), describe(new)]) == ["stage 2 steps: 12 -> 99"]
    assert any(
        line.startswith("stage 2 model") for line in differences([describe(old)], [describe(old), describe(old)])
    )


def test_a_recipe_needs_its_experiment():
    with pytest.raises(TypeError):
        Recipe(model="toy/plain")
