"""The tables of MaskCLIP+ on cases with a known answer; the script itself runs for hours."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lexiseg import catalog
from lexiseg.metrics import scores
from lexiseg.metrics.confusion import Confusion
from script_files import load

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("studies/maskclip_plus_miniature")


def test_the_unseen_classes_are_every_fifth_by_name(script: ModuleType) -> None:
    assert script.UNSEEN == ("body", "chair", "grass", "sky")
    assert script.SUBSETS["unseen"].sum() == 4
    assert (script.SUBSETS["seen"] != script.SUBSETS["unseen"]).all()


def options(script: ModuleType, *more: str) -> argparse.Namespace:
    found: argparse.Namespace = script.parse(["--data", "data", "--out", "out", *more])
    return found


def test_every_row_is_a_recipe_or_a_setting_of_the_teacher(script: ModuleType) -> None:
    for row in script.ROWS:
        if row in script.TEACHER:
            assert catalog.resolve("maskclip/mini", **script.TEACHER[row])
        else:
            assert script.recipe_of(row, options(script), seed=1).seed == 1
    assert len({script.slug(row) for row in script.ROWS}) == len(script.ROWS)


def test_rows_differ_in_labels_and_turns_alone(script: ModuleType) -> None:
    recipes = {row: script.recipe_of(row, options(script, "--steps", "40"), seed=0) for row in script.ROWS[5:]}
    assert recipes["MaskCLIP+"].data.label_free
    assert recipes["MaskCLIP+, released masks"].data.suppressed == ("*",)
    assert (recipes["labels=all"].data.suppressed, recipes["labels=all"].data.label_free) == ((), False)
    for row in script.ZERO_SHOT:
        assert recipes[row].data.suppressed == recipes[row].objective.unseen == script.UNSEEN
    assert not recipes["adapted"].objective.guided
    assert recipes["guided"].objective.self_training is None
    assert recipes["guided, itself from 10 %"].objective.self_training == 4


def test_a_cell_is_the_mean_over_seeds_and_an_interval_over_photographs(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = np.arange(22, dtype=np.uint8).reshape(2, 11)
    for seed, wrong in enumerate((0, 2)):
        labels = truth.copy()
        labels.reshape(-1)[:wrong] = 255  # pixels that nothing claims
        confusion = Confusion.empty(22)
        confusion.update(labels, truth, image="one")
        out = tmp_path / f"run-{seed}"
        out.mkdir()
        result = {"row": "MaskCLIP+", "seed": seed, "scores": scores.score(confusion.tallies, subsets=script.SUBSETS)}
        (out / "result.json").write_text(json.dumps({**result, "confusion": confusion.to_json()}))
    script.report(tmp_path)
    mean, spread = 100 * (1 + 20 / 22) / 2, 100 * (2 / 22) / 2**0.5
    assert f"| MaskCLIP+ | 2 | {mean:.1f} ± {spread:.1f} [" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "results.json").read_text())) == 2


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the photographs of shared/data are not here")
def test_the_script_runs_and_does_nothing_twice(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["MaskCLIP", "MaskCLIP+", "guided, itself from 50 %"]
    short = ["--steps", "2", "--batch-size", "2", "--seeds", "1", "--limit", "2"]
    for _ in range(2):
        script.main(["--data", str(DATA), "--out", str(tmp_path), *short, "--only", *rows])
        assert "| guided, itself from 50 % | 1 |" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*/result.json"))) == 3
