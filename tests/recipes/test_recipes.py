"""Every recipe: it names what exists, survives --set, its TOY lowers its loss in seconds, its RECIPE fits its model."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lexiseg import catalog, settings
from lexiseg.cli.train import find
from lexiseg.errors import LexisegError, UnknownName
from lexiseg.training import recipe as recipes
from lexiseg.training.recipe import Recipe
from lexiseg.training.train import train


def versions() -> Iterator[str]:
    """All recipes of all files, as `lexiseg train` knows them."""
    for name in catalog.names("recipes"):
        for attribute, value in vars(catalog.get("recipes", name)).items():
            if attribute.isupper() and attribute[0] != "_" and isinstance(value, (Recipe, tuple)) and value:
                first = value if isinstance(value, Recipe) else value[0]
                if isinstance(first, Recipe):
                    yield f"{name}/{attribute.lower()}"


def stages(name: str) -> tuple[Recipe, ...]:
    """Those that train."""
    return tuple(stage for stage in find(name, mini=False, toy=False) if isinstance(stage, Recipe))


@pytest.fixture(params=catalog.names("recipes"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(versions()))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_file_has_a_toy_and_a_real_version_and_says_what_it_trains(name: str) -> None:
    known = set(versions())
    assert f"{name}/toy" in known
    assert {f"{name}/recipe", f"{name}/mini"} & known
    assert (catalog.get("recipes", name).__doc__ or "").strip()


def test_models_benchmarks_and_settings_exist(version: str) -> None:
    for stage in stages(version):
        module, _ = catalog.resolve(stage.model)
        assert hasattr(module, "Training")
        assert stage.config is None or isinstance(stage.config, module.Config)
        assert set(stage.benchmarks) <= set(catalog.names("benchmarks"))
        built = typing.get_type_hints(type(stage.objective).build)["return"]
        recipes.check(stage, contrastive=hasattr(built, "embed"))


def test_a_recipe_is_plain_json_in_the_run_record(version: str) -> None:
    for stage in stages(version):
        assert json.loads(json.dumps(recipes.describe(stage)))["steps"] == stage.steps


def test_settings_change_by_name_and_typos_are_told(version: str) -> None:
    (stage, *_) = stages(version)
    changed = recipes.change(stage, {"steps": "3", "optimiser.rate": "1e-5", "schedule.name": "constant"})
    assert (changed.steps, changed.optimiser.rate, changed.schedule.name) == (3, 1e-5, "constant")
    with pytest.raises(UnknownName, match=r"optimiser\.rate"):
        recipes.change(stage, {"optimizer.rate": "1"})


def test_data_that_is_not_there_is_a_clear_error(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes name places that only their users have; TOYs draw their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for stage in stages(version):
        opening: dict[str, Any] = {"batch_size": 2, "seed": 0, "max_bad_fraction": 0.0}
        if "pseudo_labels" in settings.names(stage.data):  # they come from an earlier stage
            stage = settings.change(stage, {"data.pseudo_labels": None})
        if version.partition("/")[2].startswith("toy"):
            assert stage.data.open(**opening).samples_per_epoch > 0
        else:
            with pytest.raises(LexisegError):
                stage.data.open(**opening)


def test_toy_lowers_its_loss(name: str, tmp_path: Path) -> None:
    toy = tuple(dataclasses.replace(stage, log_every=1) for stage in find(name, mini=False, toy=True))
    torch.set_num_threads(1)
    run = train(toy, tmp_path / "run", tensorboard=False)
    assert run.finished
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert all(map(math.isfinite, losses))
    few = max(1, len(losses) // 6)
    assert sum(losses[-few:]) < 0.8 * sum(losses[:few])
    segmenter, _ = catalog.load(tmp_path / "run" / "model")
    assert not segmenter.training  # type: ignore[attr-defined]


def test_toy_goes_on_after_a_stop_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    (first, *_) = find(name, mini=False, toy=True)
    toy = dataclasses.replace(first, steps=4)
    torch.set_num_threads(1)

    def stop(segmenter: Any, step: int) -> dict[str, Any]:
        signal.raise_signal(signal.SIGTERM)
        return {}

    train(toy, tmp_path / "whole", tensorboard=False)
    stopping = dataclasses.replace(toy, evaluate_every=2)
    assert not train(stopping, tmp_path / "parts", evaluate=stop, tensorboard=False).finished
    assert train(toy, tmp_path / "parts", resume=True, tensorboard=False).finished
    whole, parts = ((tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts
