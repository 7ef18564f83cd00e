"""The double that learns prompts, through the trainer, and then its prompts without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shelf import doubles

import lexiseg
from lexiseg import catalog
from lexiseg.data.labelled.dense import DenseAugmentation
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.encoders.prompts import Prompts
from lexiseg.training.recipe import Optimiser, Recipe
from lexiseg.training.train import train

AS_THEY_ARE = DenseAugmentation(crop=(32, 32), scale=(32, 32), ratio=(1.0, 1.0), most_of_one=1.0, distort=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run of a short training, and the double on the shelf."""
    out = tmp_path_factory.mktemp("run")
    with doubles():
        method: Any = catalog.get("methods", "learned_prompts")
        recipe = Recipe(
            model="learned_prompts/tiny",
            objective=method.Training(tuple(class_names())),
            data=SceneLabelData(Scenes(count=16, size=32), AS_THEY_ARE),
            steps=24,
            batch_size=8,
            optimiser=Optimiser(rate=3e-2),
            log_every=4,
        )
        train(recipe, out, tensorboard=False)
        yield out


def test_the_loss_falls_and_only_the_prompts_have_changed(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert losses[-1] < 0.9 * losses[0]
    before, _ = catalog.load("learned_prompts/tiny")
    after, _ = catalog.load(trained / "model")
    changed = {
        name
        for name, tensor in before.state_dict().items()  # type: ignore[attr-defined]
        if not torch.equal(after.state_dict()[name], tensor)  # type: ignore[attr-defined]
    }
    assert changed == {"context"}


def test_a_checkpoint_holds_the_prompts_without_the_clip(trained: Path) -> None:
    """A frozen tower that the recipe names is not written again at every checkpoint."""
    largest = max(path.stat().st_size for path in (trained / "checkpoints").rglob("*") if path.is_file())
    assert largest < 100_000 < (trained / "model" / "model.safetensors").stat().st_size


def test_the_prompts_serve_another_method_on_the_same_clip(trained: Path, tmp_path: Path) -> None:
    learned = trained / "model" / "learned.safetensors"
    prompts = Prompts.open(learned)
    assert prompts.context is not None
    assert prompts.context.shape == (4, 64)
    photo = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    words = "cat, grass, sky"
    theirs = lexiseg.load("learned_prompts/tiny", weights=trained / "model", device="cpu", dtype="fp32")
    ours = lexiseg.load("maskclip/tiny", prompts=learned, device="cpu", dtype="fp32")
    plain = lexiseg.load("maskclip/tiny", device="cpu", dtype="fp32")
    found = ours.segment(photo, words)
    assert (found.labels == theirs.segment(photo, words).labels).all()
    assert (found.labels != plain.segment(photo, words).labels).any()
    assert ours.settings["prompts"] != plain.settings["prompts"]
    ours.save(tmp_path / "saved")  # and they go with it
    assert (
        lexiseg.load(tmp_path / "saved", device="cpu", dtype="fp32").segment(photo, words).labels == found.labels
    ).all()
