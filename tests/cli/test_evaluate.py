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
from lexiseg.cli import compare, evaluate, oracle, prompts, sweep
from lexiseg.cli import data as data_commands
from lexiseg.errors import LexisegError, OutputError, SettingError, UnknownName
from lexiseg.evaluation import choosing
from lexiseg.evaluation.protocols import Study, row
from lexiseg.inference import devices

Runs = Callable[..., Result]
CPU = ("--device", "cpu", "--dtype", "fp32")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(lexiseg.methods, "__path__", with_colours(lexiseg.methods.__path__))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    for module in (evaluate, compare, sweep, prompts, oracle, data_commands):
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
    written = json.loads((tmp_path / "lexiseg-results" / "colours-plain-on-folder-two.json").read_text())
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
    assert names[:2] == [
        "colours-plain-on-folder-data-contrast-1.json",
        "colours-plain-on-folder-data-contrast-5.json",
    ]
    assert len(names) == 5


def test_own_words_and_boundaries_are_shown(runs: Runs, two: Path) -> None:
    shown = evaluated(runs, two, "--own-words", "--boundary").stdout
    assert "Each image asked about its own classes alone (2 images with two or more)" in shown
    assert "boundary IoU" in shown


def test_all_classes_can_be_asked_for(runs: Runs, two: Path) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", "blue", "yellow"]))
    assert "yellow" not in evaluated(runs, two).stdout
    assert "yellow" in evaluated(runs, two, "--all-classes", "--out", "all").stdout


def test_the_same_command_twice_shows_the_finished_result(runs: Runs, two: Path) -> None:
    first, second = evaluated(runs, two), evaluated(runs, two)
    assert second.stdout == first.stdout
    assert "two.json has this result of the same settings and data; --overwrite measures again" in second.stderr
    assert "images/s" not in second.stderr
    assert "images/s" in evaluated(runs, two, "--overwrite").stderr
    again = evaluated(runs, two, "--resume", "--json")
    assert json.loads(again.stdout)["images"] == 2


def test_folders_of_ones_own_do_not_share_a_result(runs: Runs, two: Path, tmp_path: Path) -> None:
    evaluated(runs, two)
    evaluated(runs, noise(tmp_path / "other" / "three", 3))
    assert len(list((tmp_path / "lexiseg-results").iterdir())) == 2
    with pytest.raises(
        OutputError, match=r"another result \(benchmark.images was 2 and is 3\); .*out=PATH.*overwrite=True"
    ):
        evaluated(runs, noise(tmp_path / "other" / "two", 3))
    with pytest.raises(OutputError, match=r"another result \(settings.config.swap was False and is True\)"):
        evaluated(runs, two, "--set", "swap=true")


def test_a_file_in_place_of_the_folder_is_found_before_the_work(runs: Runs, two: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"--out file is a file that does not end with \.json"):
        evaluated(runs, two, "--out", "file", "--limit", "1")


def test_wrong_names_are_found_before_the_first_model_is_measured(runs: Runs, two: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'colours/swapped'"):
        runs("evaluate", "colours/plain", "colours/swaped", "--on", "folder", "--data", two, *CPU)
    assert not (tmp_path / "lexiseg-results").exists()


def test_what_stands_for_the_background_is_shown(runs: Runs, two: Path) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", "background|white|yellow"]))
    assert "background: 2 words stand for it (white, yellow); --background" in evaluated(runs, two).stdout
    threshold = evaluated(runs, two, "--threshold", "0.5", "--out", "a")
    assert "background: pixels whose best class has a posterior below 0.5" in threshold.stdout


def test_classes_in_no_label_map_are_marked(runs: Runs, two: Path) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", "blue", "yellow", "white"]))
    picture = np.asarray(Image.open(two / "images" / "one.png")).copy()
    picture[0, 0] = (255, 255, 0)
    Image.fromarray(picture).save(two / "images" / "one.png")
    lines = {line.split()[0]: line for line in evaluated(runs, two, "--all-classes").stdout.splitlines() if line}
    assert lines["yellow"].endswith("in no label map, but predicted")
    assert lines["white"].endswith("in no label map: left out")
    assert "label map" not in lines["red"]


@pytest.mark.parametrize(
    ("chosen", "name", "dtype", "flag"),
    [
        ((), "released (Table 1)", "float32", "--protocol lexiseg takes"),
        (
            ("--protocol", "lexiseg"),
            "lexiseg (the variant's own settings)",
            "bfloat16",
            "--protocol released takes another",
        ),
    ],
)
def test_the_protocol_is_said_with_the_flag_for_another(
    runs: Runs, two: Path, monkeypatch: pytest.MonkeyPatch, chosen: tuple[str, ...], name: str, dtype: str, flag: str
) -> None:
    study = Study("released", "Table 1", ("plain",), {"folder": row(scale=5)})
    monkeypatch.setattr(choosing, "studies", lambda method: (study,) if method == "colours" else ())
    monkeypatch.setattr(devices, "_cpu_has", lambda probe: probe == "_is_avx512_bf16_supported")
    for command in (("evaluate",), ("sweep", "--set", "threshold=0.5")):
        result = runs(*command, "colours/plain", "--on", "folder", "--data", two, "--device", "cpu", *chosen)
        said = f"colours/plain on folder is measured by the protocol {name}, in {dtype}; {flag}"
        assert said in result.stderr


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
    assert "inflates the score" in result.stderr
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


def test_prompts_are_a_table_with_the_best_first_and_a_file(runs: Runs, two: Path) -> None:
    Path("few.txt").write_text("a {}\nthe {}\n{}\n")
    asked = ("prompts", "colours/plain", "--on", "folder", "--data", two, *CPU, "--among", "few.txt")
    result = runs(*asked, "--out", "best.txt")
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 3
    best = json.loads(runs(*asked, "--json").stdout)["best"]
    assert Path("best.txt").read_text() == f"{best}\n"
    assert lines[2].startswith(best)
    assert "3 sentences on 2 images, each looked at once" in result.stderr
    assert "has one split" in result.stderr
