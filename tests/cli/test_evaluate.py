"""`lexiseg evaluate`, `compare`, `sweep`, `oracle` and `data check`: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

import lexiseg.methods
from evaluation.pictures import TWO, folder, label, noise, with_colours
from lexiseg.cli import compare, evaluate, oracle, sweep
from lexiseg.cli import data as data_commands
from lexiseg.errors import LexisegError, OutputError, SettingError, UnknownName

Runs = Callable[..., Result]
CPU = ("--device", "cpu", "--dtype", "fp32")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(lexiseg.methods, "__path__", with_colours(lexiseg.methods.__path__))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    for module in (evaluate, compare, sweep, oracle, data_commands):
        module.register(app)

    def run(*arguments: Any) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if isinstance(result.exception, LexisegError):
            raise result.exception
        return result

    return run


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return folder(tmp_path / "two", TWO)


def evaluated(runs: Runs, data: Path, *arguments: Any, model: str = "colours/plain") -> Result:
    result = runs("evaluate", model, "--on", "folder", "--data", data, *CPU, *arguments)
    assert result.exit_code == 0, result.output
    return result


def test_a_table_shows_scores_intervals_baselines_and_classes(runs: Runs, two: Path) -> None:
    shown = evaluated(runs, two).stdout
    assert "colours/plain on folder (all): 2 images, 3 classes, protocol lexiseg" in shown
    (miou,) = [line.split() for line in shown.splitlines() if line.startswith("mIoU")]
    assert miou[1] == "57.8"
    assert miou[2].startswith("[")
    assert "largest class of each image" in shown
    (green,) = [line.split() for line in shown.splitlines() if line.startswith("green")]
    assert green[1:] == ["40.0", "40.0", "45.5"]  # IoU, accuracy, share of the pixels


def test_the_result_is_written_beside_the_table(runs: Runs, two: Path, tmp_path: Path) -> None:
    result = evaluated(runs, two)
    written = json.loads((tmp_path / "lexiseg-results" / "colours-plain-on-folder.json").read_text())
    assert written["scores"]["miou"]["value"] == pytest.approx(0.57777778)
    assert "images/s (model" in result.stderr
    assert "lexiseg-results" in result.stderr
    assert "lexiseg-results" not in result.stdout


def test_json_is_one_document_that_compare_reads(runs: Runs, two: Path, tmp_path: Path) -> None:
    first = evaluated(runs, two, "--json", "--out", "a.json")
    assert json.loads(first.stdout) == json.loads((tmp_path / "a.json").read_text())
    evaluated(runs, two, "--set", "swap=true", "--out", "b.json")
    compared = runs("compare", "a.json", "b.json").stdout
    assert compared.index("settings.config.swap") < compared.index("mIoU")
    assert "57.8" in compared
    gaps = json.loads(runs("compare", "a.json", "b.json", "--json").stdout)
    assert gaps["settings"] == [["settings.config.swap", False, True]]
    assert gaps["scores"]["miou"]["value"] > 0


def test_results_that_do_not_compare_say_why(runs: Runs, two: Path) -> None:
    evaluated(runs, two, "--out", "a.json")
    evaluated(runs, two, "--limit", "1", "--out", "b.json")
    shown = runs("compare", "a.json", "b.json").stdout
    assert "counting.limit" in shown
    assert "The numbers do not compare: 1 images were scored in one of them only" in shown


def test_several_models_are_rows_of_one_table(runs: Runs, two: Path) -> None:
    result = runs("evaluate", "colours/plain", "colours/swapped", "--on", "folder,folder", "--data", two, *CPU)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["mIoU,", "%", "folder"]
    assert lines[2].startswith("colours/plain")
    assert lines[2].split()[1] == "57.8"
    assert lines[3].startswith("colours/swapped")
    documents = runs(
        "evaluate", "colours/plain", "colours/swapped", "--on", "folder", "--data", two, *CPU, "--resume", "--json"
    )
    assert [one["model"] for one in json.loads(documents.stdout)["results"]] == ["colours/plain", "colours/swapped"]


def test_corruptions_are_a_table_with_what_is_lost(runs: Runs, tmp_path: Path) -> None:
    data = noise(tmp_path / "data", 3)
    shown = evaluated(runs, data, "--corrupt", "gaussian_noise,contrast:1,5").stdout.splitlines()
    assert shown[2].split()[2:] == ["severity", "1", "severity", "5"]
    assert [line.split()[0] for line in shown[4:]] == ["none", "gaussian_noise", "contrast", "mean"]
    assert "(-" in shown[5]
    assert "%)" in shown[5]
    names = sorted(path.name for path in (tmp_path / "lexiseg-results").iterdir())
    assert names[:2] == ["colours-plain-on-folder-contrast-1.json", "colours-plain-on-folder-contrast-5.json"]
    assert len(names) == 5


def test_own_words_and_boundaries_are_shown(runs: Runs, two: Path) -> None:
    shown = evaluated(runs, two, "--own-words", "--boundary").stdout
    assert "Each image asked about its own classes alone (2 images with two or more)" in shown
    assert "boundary IoU" in shown


def test_all_classes_can_be_asked_for(runs: Runs, two: Path) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", "blue", "yellow"]))
    assert "yellow" not in evaluated(runs, two).stdout
    assert "yellow" in evaluated(runs, two, "--all-classes", "--out", "all").stdout


def test_results_are_not_overwritten_unless_asked(runs: Runs, two: Path) -> None:
    evaluated(runs, two)
    with pytest.raises(OutputError, match="exists already"):
        evaluated(runs, two)
    evaluated(runs, two, "--overwrite")
    evaluated(runs, two, "--resume")


def test_one_file_cannot_hold_several_results(runs: Runs, two: Path) -> None:
    with pytest.raises(SettingError, match="name a folder"):
        evaluated(runs, two, "--corrupt", "fog:1", "--out", "a.json")


def test_warnings_go_to_stderr(runs: Runs, two: Path) -> None:
    (two / "images" / "one.png").write_bytes(b"")
    result = evaluated(runs, two, "--allow-skipped")
    assert "colours/plain on folder: 1 images were skipped: one" in result.stderr
    assert "1 images, 1 skipped" in result.stdout


def test_a_sweep_is_a_table_with_the_best_marked(runs: Runs, two: Path) -> None:
    result = runs(
        "sweep", "colours/plain", "--on", "folder", "--data", two, *CPU,
        "--set", "threshold=0.2:0.8:0.3", "--set", "swap=false,true", "--out", "sweep.json",
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["background_threshold", "swap"]
    assert len(lines) == 2 + 6
    assert sum("best" in line for line in lines) == 1
    assert "flatters the number" in result.stderr
    assert "each looked at 2 times" in result.stderr
    assert len(json.loads(Path("sweep.json").read_text())["points"]) == 6


def test_masks_are_named_by_the_truth(runs: Runs, two: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for key, (_, truth) in TWO.items():
        Image.fromarray(label(truth, ["red", "green", "blue"])).save(tmp_path / "parts" / f"{key}.png")
    result = runs("oracle", "parts", "--on", "folder", "--data", two, "--json")
    assert json.loads(result.stdout)["scores"]["miou"]["value"] == 1
    assert "protocol oracle" in runs("oracle", "parts", "--on", "folder", "--data", two).stdout


def test_data_is_checked_and_what_is_missing_is_an_exit_code(runs: Runs, two: Path) -> None:
    assert runs("data", "check", "folder", "--data", two).exit_code == 0
    report = runs("data", "check", "voc21", "--data", two, "--json")
    assert report.exit_code == 1
    assert json.loads(report.stdout)["complete"] is False


def test_pairs_are_packed(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / "photos" / f"{number}.jpg")
        (tmp_path / "photos" / f"{number}.txt").write_text("a grey square")
    result = runs("data", "pack", "photos", "shards", "--shard-size", "2")
    assert "3 pairs in 2 shards in shards, 0 skipped" in result.stdout
    assert sorted(path.name for path in (tmp_path / "shards").glob("*.tar")) == ["000000.tar", "000001.tar"]


def test_unknown_names_are_errors_with_the_nearest(runs: Runs, two: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'folder'"):
        runs("evaluate", "colours/plain", "--on", "foldr", "--data", two)
    with pytest.raises(UnknownName, match="did you mean 'swap'"):
        evaluated(runs, two, "--set", "swp=true")
