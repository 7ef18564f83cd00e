"""`lexiseg convert`: what comes out gives the numbers of what went in, and nothing is written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from groupvit_files import authors_layout
from transformers import GroupViTModel
from typer.testing import CliRunner, Result

from lexiseg import catalog
from lexiseg.cli import convert
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.vit_bert import TINY, VitBert
from lexiseg.errors import OutputError, WeightsError
from lexiseg.evaluation.choosing import choose
from lexiseg.evaluation.setup import Model, Setup


def run(*arguments: object) -> Result:
    app = typer.Typer()
    convert.register(app)
    app.callback()(lambda: None)  # with one command only, typer would take its name for an argument
    result = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights as SimSeg's authors save theirs, in a folder with a tokenizer."""
    towers = VitBert.random(TINY)
    towers.tokenizer.save(tmp_path / "official")
    torch.save({"state_dict": towers._released()}, tmp_path / "official" / "simseg.pth")
    return tmp_path / "official" / "simseg.pth"


@torch.no_grad()
def test_a_released_simseg_becomes_a_folder_that_loads_by_itself(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "simseg"
    result = run(checkpoint, "--to", "simseg/custom", "--out", out, "--allow-pickle", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["method"] == "simseg"
    converted, inference = catalog.load(out)
    direct, own = catalog.load("simseg/custom", weights=checkpoint, allow_pickle=True)
    assert inference == own
    images = torch.randint(0, 256, (1, 3, 48, 48)).to(torch.uint8)
    for one, other in ((converted, direct),):
        assert torch.equal(one.embed_image(images).image, other.embed_image(images).image)
        assert torch.equal(one.text_vectors(["a cat"]), other.text_vectors(["a cat"]))  # type: ignore[attr-defined]
    assert json.loads((out / "lexiseg.json").read_text())["converted_from"] == "simseg.pth"
    assert choose(Setup(Model(str(out)), "context60")).name == "lexiseg"  # a custom variant has no published numbers


def test_a_folder_of_a_measured_variant_keeps_its_authors_protocol(tmp_path: Path) -> None:
    module, variant = catalog.resolve("simseg/vit-b16")
    facts = {"variant": "vit-b16", "converted_from": "simseg.pth"}
    catalog.describe(tmp_path, "simseg", module.Config(), variant.inference, **facts)
    chosen = choose(Setup(Model(str(tmp_path)), "context60"))
    assert (chosen.name, chosen.settings["ranked_classes"]) == ("released", 30)


@torch.no_grad()
def test_a_released_groupvit_becomes_a_folder_that_loads_by_itself(tmp_path: Path) -> None:
    segmenter, _ = catalog.load("groupvit/tiny")
    towers = segmenter.towers  # type: ignore[attr-defined]
    towers.save(tmp_path / "transformers")
    towers.text.tokenizer.save(tmp_path)
    model = GroupViTModel.from_pretrained(tmp_path / "transformers")
    torch.save({"model": authors_layout(model), "epoch": 29}, tmp_path / "group_vit.pth")
    out = tmp_path / "models" / "groupvit"
    assert run(tmp_path / "group_vit.pth", "--to", "groupvit/custom", "--out", out, "--allow-pickle").exit_code == 0
    converted, inference = catalog.load(out)
    assert (inference.short_side, inference.window, inference.stride) == (448, 448, 224)
    images = torch.randint(0, 256, (1, 3, 48, 48)).to(torch.uint8)
    one, other = converted.embed_image(images), segmenter.embed_image(images)
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in one.per_image)
    with pytest.raises(WeightsError, match=r"2-1-1 layers of 64.*this model is a GroupViT of 6-3-3"):
        run(tmp_path / "group_vit.pth", "--to", "groupvit/cc-yfcc", "--out", tmp_path / "no", "--allow-pickle")


@torch.no_grad()
def test_any_methods_weights_convert(tmp_path: Path) -> None:
    Clip.random(TINY_VIT).save(tmp_path / "clip")
    for method in ("maskclip", "simseg"):
        run(tmp_path / "clip", "--to", f"{method}/custom", "--out", tmp_path / method, "--set", "short_side=64")
        segmenter, inference = catalog.load(tmp_path / method)
        assert inference.short_side == 64
        assert segmenter.embed_image(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).features.shape == (1, 32, 4, 4)


def test_weights_of_another_architecture_are_not_converted(checkpoint: Path, tmp_path: Path) -> None:
    Clip.random(TINY_VIT).save(tmp_path / "clip")
    for file, to in ((tmp_path / "clip" / "model.safetensors", "maskclip/rn50"), (tmp_path / "clip", "simseg/vit-b16")):
        with pytest.raises(WeightsError, match=f"{file} holds a CLIP with a ViT of 2 layers.*this model is a"):
            run(file, "--to", to, "--out", tmp_path / "out")
    with pytest.raises(WeightsError, match=r"holds a ViT of 2 layers.*this model is a ViT of 12 layers"):
        run(checkpoint, "--to", "simseg/vit-b16", "--out", tmp_path / "out", "--allow-pickle")
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_and_nothing_is_guessed(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="another folder"):
        run(checkpoint, "--to", "simseg/vit-b16", "--out", checkpoint.parent)
    with pytest.raises(WeightsError, match="nothing at"):
        run(tmp_path / "none.pth", "--to", "simseg/vit-b16", "--out", tmp_path / "out")
    with pytest.raises(WeightsError, match="allow_pickle"):
        run(checkpoint, "--to", "simseg/vit-b16", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
