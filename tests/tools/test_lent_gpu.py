"""Training for some minutes on a machine that keeps nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from lexiseg.encoders.clip import Clip
from lexiseg.errors import SettingError
from lexiseg.recipes.mini_clip_vit import TOY
from lexiseg.training import checkpoint

TOOLS = Path(__file__).parents[2] / "tools"
EMBEDDED = Path(str(resources.files("lexiseg") / "assets" / "mini-clip"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        import lent_gpu
    finally:
        sys.path.remove(str(TOOLS))
    return lent_gpu


def test_when_the_time_is_over_the_model_is_that_of_the_last_step(script: ModuleType, tmp_path: Path) -> None:
    model = script.train_for(4.0, replace(TOY, steps=1_000_000, ema=0.5), tmp_path)
    saved = checkpoint.newest(tmp_path / "checkpoints")
    assert saved is not None
    assert 0 < saved.step < 1_000_000
    name = "clip.vision.projection.weight"
    found = load_file(model / "model.safetensors")["visual_projection.weight"]
    assert torch.equal(found, saved.tensors["average"][f"segmenter.{name}"])
    assert not torch.equal(found, saved.tensors["weights"][f"segmenter.{name}"])


def test_a_stage_that_ends_in_time_gives_its_own_model(script: ModuleType, tmp_path: Path) -> None:
    assert script.train_for(600.0, replace(TOY, steps=2), tmp_path) == tmp_path / "model"


def test_what_is_carried_away_is_where_the_next_machine_begins(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = []

    def train_for(seconds: float, stage, out: Path) -> Path:
        stages.append((seconds, stage))
        clip = Clip.load(stage.weights).float()
        with torch.no_grad():
            clip.log_scale.add_(0.25)
        clip.save(out)
        return out

    def card(arguments: list[str]) -> None:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(parents=True)
        for name in ("card.md", "card.json"):
            (folder / name).write_text(" ".join(arguments))

    monkeypatch.setattr(script, "train_for", train_for)
    monkeypatch.setattr(script.model_card, "main", card)
    place = ["--data", "photographs", "--minutes", "8", "--set", "batch_size=256"]
    script.main([*place, "--out", str(tmp_path / "a"), "--work", str(tmp_path / "1")])
    onward = ["--start", str(tmp_path / "a" / "model.safetensors"), "--stage", "2"]
    script.main([*place, *onward, "--out", str(tmp_path / "b"), "--work", str(tmp_path / "2")])
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["card.json", "card.md", "model.safetensors"]
    start, after = (load_file(folder / "model.safetensors") for folder in (EMBEDDED, tmp_path / "b"))
    assert {tensor.dtype for tensor in after.values()} == {torch.float16}
    torch.testing.assert_close(after["logit_scale"], start["logit_scale"] + 0.5)
    assert sum(path.stat().st_size for path in (tmp_path / "b").iterdir()) < 16_000_000
    assert [seconds for seconds, _ in stages] == [480, 480]
    assert [stage.batch_size for _, stage in stages] == [256, 256]
    assert [stage.data.pairs.size for _, stage in stages] == [128, 192]
    assert {stage.data.root for _, stage in stages} == {"photographs"}
    assert (tmp_path / "2" / "model" / "concepts.json").is_file()


def test_weights_that_are_not_there_are_named(script: ModuleType, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "weights")
    assert script.unpack(None, tmp_path / "x") == EMBEDDED
    assert load_file(script.unpack(tmp_path / "weights", tmp_path / "x") / "model.safetensors").keys() == {"a"}
    with pytest.raises(SettingError, match=r"nowhere is no file"):
        script.unpack(tmp_path / "nowhere", tmp_path / "x")
