"""A dry run counts and measures, checks what could go wrong, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import pytest
import toy

from lexiseg.errors import DataError, OutputError
from lexiseg.training import dry_run as module
from lexiseg.training.checkpoint import newest
from lexiseg.training.dry_run import dry_run
from lexiseg.training.recipe import Group, Labelling, Optimiser
from lexiseg.training.train import train


@dataclass(frozen=True)
class Missing(toy.ToyData):
    def open(self, **_):
        raise DataError("nowhere does not exist; correct the path")


def test_parameters_steps_and_samples_are_counted(tmp_path):
    recipe = toy.recipe(groups=(Group(("segmenter.first.*",), frozen=True),), ema=0.9)
    (stage,) = dry_run(recipe, tmp_path / "run", build=toy.build).stages
    first, norm, second = 4 * 16 + 16, 2 * 16, 16 * 3 + 3
    assert (stage.trained, stage.frozen) == (norm + second, first)
    assert (stage.steps, stage.samples) == (12, 96)
    assert stage.epochs == pytest.approx(96 / 37)
    assert stage.model_bytes == 4 * ((norm + second) * 5 + first)  # weight, gradient, two moments, average
    assert stage.data["samples"] == 37
    assert stage.peak_bytes > stage.model_bytes


def test_sgd_needs_one_moment_less_and_muon_one_for_matrices(tmp_path):
    adamw, sgd, muon = (
        dry_run(toy.recipe(optimiser=Optimiser(name)), tmp_path, build=toy.build).stages[0]
        for name in ("adamw", "sgd", "muon")
    )
    assert adamw.model_bytes - sgd.model_bytes == 4 * adamw.trained
    assert adamw.model_bytes - muon.model_bytes == 4 * (4 * 16 + 16 * 3)


def test_checkpoints_are_as_large_as_foretold(tmp_path):
    (stage,) = dry_run(toy.recipe(ema=0.9), tmp_path / "run", build=toy.build).stages
    train(toy.recipe(ema=0.9), tmp_path / "run", build=toy.build, tensorboard=False)
    tensors = newest(tmp_path / "run" / "checkpoints").tensors
    assert stage.checkpoint_bytes == sum(t.nbytes for group in tensors.values() for t in group.values())


def test_time_is_measured_on_real_steps(tmp_path):
    (stage,) = dry_run(toy.recipe(data=toy.ToyData(delay=0.05)), tmp_path, build=toy.build).stages
    assert 0.05 <= stage.seconds_per_step < 1
    assert stage.seconds == pytest.approx(12 * stage.seconds_per_step)


@dataclass(frozen=True)
class Labelled(toy.ToyData):
    pseudo_labels: str | None = None


def test_stages_are_measured_before_what_they_need_is_there(tmp_path):
    seen = []

    def build(recipe):
        seen.append(recipe.weights)
        return toy.build(recipe)

    stages = (
        toy.recipe(name="first"),
        Labelling(name="guess", teacher="@first", data=toy.ToyData()),
        toy.recipe(weights="@first", data=Labelled(pseudo_labels="@guess")),
    )
    report = dry_run(stages, tmp_path / "run", build=build)
    assert [stage.steps for stage in (report.stages[0], report.stages[2])] == [12, 12]
    assert report.stages[1].photographs == 37
    assert seen[1].endswith("/first/model")
    assert "photographs 37 to be labelled" in report.lines()
    assert not (tmp_path / "run").exists()


def test_nothing_is_written(tmp_path):
    dry_run(toy.recipe(), tmp_path / "deep" / "run", build=toy.build)
    assert list(tmp_path.iterdir()) == []


def test_the_report_has_a_part_for_each_stage(tmp_path):
    lines = dry_run((toy.recipe(), toy.recipe(steps=5)), tmp_path, build=toy.build).lines()
    text = "\n".join(lines)
    assert "stage 2 of 2" in text
    assert "163 trained" in text
    assert "steps       5, 40 samples" in text
    assert lines[-1].startswith("disk")


def test_missing_data_of_any_stage_is_named_before_anything_is_built(tmp_path):
    def build(recipe):
        pytest.fail("built before the data was opened")

    with pytest.raises(DataError, match="nowhere"):
        dry_run((toy.recipe(), toy.recipe(data=Missing())), tmp_path, build=build)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        dry_run(toy.recipe(), tmp_path / "file" / "run", build=toy.build)
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="written"):
            dry_run(toy.recipe(), tmp_path / "closed" / "run", build=toy.build)


def test_too_little_room_for_the_checkpoints_is_foreseen(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(OutputError, match=r"1 kB free, and the checkpoints need 6\.\d+ kB"):
        dry_run(toy.recipe(), tmp_path, build=toy.build)
