"""The miniature of S-Seg runs on drawn scenes, goes on where it ended, and its tables say what its results do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lexiseg.metrics import scores
from lexiseg.metrics.confusion import Confusion
from script_files import load


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("studies/s_seg_miniature")


def run(script: ModuleType, out: Path, *more: str) -> None:
    script.main(["--toy", "--out", str(out), "--seeds", "1", "--limit", "2", *more])


def test_the_toy_runs_every_kind_of_row_and_again_trains_nothing(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ("S-Seg", "S-Seg+", script.B1, script.B2)
    run(script, tmp_path, "--only", *rows)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    for name in (*rows, "K-means of colours", "spectral clustering of colours"):
        assert sum(line.startswith(f"| {name} | ") for line in lines) >= 1, name
    results = json.loads((tmp_path / "results.json").read_text())
    assert {each["row"] for each in results if each["table"] == 2} == set(rows)
    assert all(0 <= each["scores"]["miou"] <= 1 for each in results)
    assert (tmp_path / "s-seg-plus-seed-0" / "labels" / "labels").is_dir()
    monkeypatch.setattr(script, "train", None)
    run(script, tmp_path, "--only", *rows)
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert again == lines


def test_a_student_needs_its_teacher_first(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has not been run for seed 0"):
        run(script, tmp_path, "--only", "S-Seg+")


def test_rows_differ_in_losses_and_pairs_alone(script: ModuleType, tmp_path: Path) -> None:
    options = script.parse(["--toy", "--out", str(tmp_path)])
    world = script.toy_world(options)
    base: Any = script.stages_of("S-Seg", 1, world, options)[0]
    assert base.seed == 1
    for row, changes in script.LOSSES.items():
        (recipe,) = script.stages_of(row, 1, world, options)
        assert recipe == replace(base, objective=replace(base.objective, **changes))
    for row, share in script.SIZES.items():
        (recipe,) = script.stages_of(row, 1, world, options)
        assert recipe == replace(base, data=recipe.data)
        assert recipe.data.scenes.count == round(share * base.data.scenes.count)


def a_result(row: str, seed: int, labels: np.ndarray) -> dict[str, Any]:
    """Of two photographs, of which the first is all class 0 and the second all class 1."""
    confusion = Confusion.empty(2)
    for at in range(2):
        confusion.update(labels[at], np.full((2, 2), at, np.uint8), image=str(at))
    found = scores.score(confusion.tallies)
    return {"table": 2, "row": row, "seed": seed, "scores": found, "confusion": confusion.to_json()}


def test_gains_are_of_equal_seeds_and_count_the_wins(script: ModuleType) -> None:
    wrong, right = np.zeros((2, 2, 2), np.uint8), np.stack([np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)])
    less = [a_result("S-Seg", seed, wrong) for seed in range(2)]  # mIoU (1/2 + 0) / 2
    more = [a_result("S-Seg+", 0, right), a_result("S-Seg+", 1, wrong)]
    assert script.gain(less, more).startswith("+37.5 [")
    assert script.gain(less, more).endswith("1 of 2 seeds")
    assert script.gain(less[:1], more).endswith("1 of 2 seeds")
    assert script.cell(more, "miou").startswith("62.5 ± 53.0 [")


def test_the_real_study_names_recipes_that_exist(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        script.parse(["--out", str(tmp_path)])
    options = script.parse(["--data", str(tmp_path), "--out", str(tmp_path), "--steps", "7"])
    assert options.steps == 7
    assert not options.toy
    assert len({script.slug(row) for row in (*script.ROWS, *script.GENERATORS)}) == len(script.ROWS) + len(
        script.GENERATORS
    )
