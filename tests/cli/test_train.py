"""`lexiseg train`: exit codes that a shell understands, and settings of one stage or of all."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lexiseg.cli.main import main
from lexiseg.cli.train import _label, find
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes
from lexiseg.errors import UnknownName
from lexiseg.training.recipe import Labelling
from lexiseg.training.trainer import Trainer

TOY = ("train", "mini_clip", "--toy", "--set", "steps=3", "--set", "batch_size=2")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_is_not_taken_for_done(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = Trainer.take_step

    def take_step(trainer: Trainer, *arguments: Any, **options: Any) -> Any:
        signal.raise_signal(number)
        return real(trainer, *arguments, **options)

    monkeypatch.setattr(Trainer, "take_step", take_step)
    assert main([*TOY, "--out", str(tmp_path / "run")]) == code
    assert "go on with --resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*TOY, "--out", str(tmp_path / "run"), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"]


def test_data_of_a_recipe_that_draws_its_own_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY, "--data", str(tmp_path), "--dry-run"]) == 1
    assert "makes its own data" in capsys.readouterr().err


def test_a_stage_that_is_misspelt_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TOY, "--set", "@stage-2.steps=1", "--dry-run"]) == 1
    assert "no stage is called 'stage-2'; did you mean 'stage-1'?" in capsys.readouterr().err


def test_a_version_that_is_misspelt_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="simseg/released"):
        find("simseg/realesed", mini=False, toy=False)


def test_a_stage_that_labels_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Labelling(name="guess", teacher="maskclip/tiny", data=SceneLabelData(Scenes(count=3, size=32)))
    assert _label(stage, tmp_path / "labels", rank=0, world=1, stop=lambda: False) == {"labelled": 3, "skipped": 0}
    assert "stage guess: 3 photographs labelled, 0 cannot be read" in capsys.readouterr().err


def test_every_version_of_a_recipe_is_listed_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["recipes"]
    assert {"simseg", "simseg/from_clip", "simseg/toy", "maskclip_plus/voc_15_5", "mini_clip_vit/resnet"} <= set(listed)
    assert all(find(name, mini=False, toy=False) for name in listed)
    assert listed["mini_clip_vit/resnet"] == "mini_clip_vit/resnet, 2,900 steps in 2 stages"
