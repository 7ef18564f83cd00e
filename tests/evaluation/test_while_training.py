"""A run that is measured while it trains: numbers in its log, pictures beside them, and nothing else changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from lexiseg import catalog
from lexiseg.cli.main import main
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.evaluation.while_training import WhileTraining
from lexiseg.recipes.simseg import TOY
from lexiseg.training.train import train


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    root = tmp_path / "scenes"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for sample in Scenes(count=3, size=32, seed=1).samples():
        Image.fromarray(sample.image()).save(root / "images" / f"{sample.key}.png")
        Image.fromarray(sample.truth()).save(root / "masks" / f"{sample.key}.png")
    (root / "classes.json").write_text(json.dumps(list(class_names())))
    return root


def test_scores_and_overlays_come_out_and_the_weights_stay_the_same(drawn: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(TOY, steps=4, evaluate_every=2, checkpoint_every=4)
    _, variant = catalog.resolve(recipe.model)
    measured = WhileTraining(("folder",), drawn, variant.inference, limit=2, pictures=1)
    seen = []

    def watch(segmenter: object, step: int) -> dict[str, object]:
        seen.append((step, measured(segmenter, step)))
        return seen[-1][1]

    train(recipe, tmp_path / "with", evaluate=watch, tensorboard=False)
    train(recipe, tmp_path / "without", tensorboard=False)
    assert [step for step, _ in seen] == [2, 4]
    for _, found in seen:
        assert 0 <= found["folder/miou"] <= 1  # type: ignore[operator]
        assert sum(isinstance(value, Image.Image) for value in found.values()) == 1
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("with", "without")]
    assert weights[0] == weights[1]


def test_the_command_measures_what_the_recipe_names(drawn: Path, tmp_path: Path) -> None:
    command = ["train", "simseg", "--toy", "--out", str(tmp_path / "run"), "--benchmark-data", str(drawn)]
    changes = ["--set", "steps=2", "--set", "benchmarks=folder", "--set", "evaluate_every=2"]
    assert main([*command, *changes]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("evaluation/folder/miou" in line for line in lines)
