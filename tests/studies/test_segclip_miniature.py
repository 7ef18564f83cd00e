"""The study runs in its dry mode, and its numbers are those of cases with a known answer."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lexiseg.metrics.confusion import Confusion
from lexiseg.recipes.segclip import MINI, groups
from lexiseg.training.recipe import Recipe
from script_files import load


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("studies/segclip_miniature")


def parse(script: ModuleType, folder: Path, *more: str) -> Any:
    return script.parse(["--data", "data", "--out", str(folder), *more])


def test_the_dry_mode_trains_measures_and_reports(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("contrastive", "both", "12 centres")
    arguments = ["--toy", "--out", str(tmp_path), "--rival", "simseg/toy", "--only", *rows]
    script.main(arguments)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines if "---" not in line] == [
        "| ", "| contrastive", "| both", "| ", "| contrastive", "| 12 centres", "| ", "| both", "| rival",
    ]  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert {each["row"] for each in results} == {*rows, "rival"}
    ours = next(each for each in results if each["row"] == "both")
    assert set(ours["scores"]) == {"rule", "S = M S", "oracle"}
    assert [line[0] for line in ours["usage"]] == [1, 2]
    assert set(next(each for each in results if each["row"] == "rival")["scores"]) == {"rule"}
    assert (tmp_path / "usage.svg").read_text().count("<polyline") == 4
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/result.json")}
    script.main(arguments)  # what is finished is not done again
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert capsys.readouterr().out == printed


def test_rows_change_what_they_are_called_after(script: ModuleType, tmp_path: Path) -> None:
    options = parse(script, tmp_path, "--weights", "some/clip", "--steps", "9")

    def recipe(row: str) -> Any:
        made: Recipe = script.recipe_of(row, options, seed=2)
        assert (made.steps, made.seed, made.batch_size) == (9, 2, MINI.batch_size)
        return made

    objective = {row: recipe(row).objective for row in script.TABLES["table 1"]}
    weights = {row: (each.reconstruction, each.superpixels) for row, each in objective.items()}
    assert weights == {"contrastive": (0, 0), "+ reconstruction": (1, 0), "+ superpixels": (0, 1), "both": (1, 1)}
    assert recipe("both").weights == "some/clip"
    assert recipe("from scratch").weights is None
    assert recipe("from scratch, patch 32").config.architecture == "small-32"
    assert (recipe("after layer 3").config.plug_layer, recipe("4 centres").config.centres) == (3, 4)
    assert recipe("after layer 3").groups == groups(3, 0.01) != recipe("both").groups == MINI.groups
    assert recipe("0 cross").config.cross_layers == 0
    assert recipe("after layer 6").objective.superpixels == 0


def test_superpixels_stay_as_large_in_proportion(script: ModuleType, tmp_path: Path) -> None:
    made = script.recipe_of("both", parse(script, tmp_path, "--train-size", "64"), seed=0).data.superpixels
    assert (made.short_side, made.min_size) == (64, 18)
    assert made.scale == pytest.approx(73 / 4)


def result(seed: int, labels: list[int]) -> dict[str, Any]:
    """Of two photographs, of which the first is all class 0 and the second all class 1."""
    confusion = Confusion.empty(2)
    for at, label in enumerate(labels):
        confusion.update(np.full((2, 2), label), np.full((2, 2), at, np.uint8), image=str(at))
    right = sum(label == at for at, label in enumerate(labels))
    miou = {0: 0.0, 1: 25.0, 2: 100.0}[right]  # one right: half of that class's union, and nothing of the other
    scores = {name: {"mIoU": miou, "confusion": confusion.to_json()} for name in ("rule", "oracle")}
    return {"seed": seed, "scores": scores, "usage": [[1, 0.9, 0.5], [2, 0.5 + 0.1 * seed, 0.5]], "benchmark": None}


def test_cells_are_means_over_seeds_with_deviations_and_gains_of_equal_seeds(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"contrastive": [result(0, [0, 0]), result(1, [0, 0])], "both": [result(1, [0, 1]), result(0, [0, 1])]}
    script.print_table(rows, "contrastive")
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert lines[2][2].startswith("25.0 ± 0.0 [")
    assert lines[2][3:6] == ["-", lines[2][2], "-"]
    assert lines[3][5].startswith("75.0 ± 0.0 [")
    assert lines[3][6] == "0.55 ± 0.07 |"


def test_regions_of_windows_are_told_apart(script: ModuleType) -> None:
    from lexiseg.inference.predictor import load as load_model

    predictor = load_model("segclip/tiny", device="cpu", dtype="fp32")
    photo = np.asarray(Image.effect_noise((60, 32), 90).convert("RGB"))
    found = script.regions(predictor, photo)
    assert found.shape == (32, 60)
    assert (found[:, :28] < 1000).all()
    assert (found[:, 28:] >= 1000).all()
