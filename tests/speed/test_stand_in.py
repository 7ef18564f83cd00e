from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg import catalog
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape, build
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import WeightsError
from lexiseg.evaluation.setup import Model
from lexiseg.methods import groupvit, maskclip, segclip
from lexiseg.speed import stand_in
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

BARE = Prompts(("{}",))

# millions of parameters of the image towers, as OpenCLIP's table of model profiles lists them
MILLIONS = {
    "vit-b32": 87.85,
    "vit-b16": 86.19,
    "vit-l14": 303.97,
    "vit-l14-336": 304.29,
    "rn50": 38.32,
    "rn101": 56.26,
    "rn50x4": 87.14,
    "rn50x16": 167.33,
    "rn50x64": 420.38,
}
# and of the whole models
ALL = {"vit-b32": 151.28, "vit-b16": 149.62, "vit-l14": 427.62, "vit-l14-336": 427.94, "rn50": 102.01, "rn101": 119.69}
ALL |= {"rn50x4": 178.3, "rn50x16": 290.98, "rn50x64": 623.26}


@pytest.mark.parametrize("name", MILLIONS)
def test_shapes_are_those_of_the_published_weights(name: str) -> None:
    weights = maskclip.VARIANTS[name].weights
    assert weights is not None
    assert isinstance(weights.shape, ClipShape)
    with torch.device("meta"):
        vision, text, projection = build(weights.shape.config())
    sizes = [sum(weight.numel() for weight in part.parameters()) / 1e6 for part in (vision, text, projection)]
    assert sizes[0] == pytest.approx(MILLIONS[name], abs=0.02)
    assert sum(sizes) == pytest.approx(ALL[name], abs=0.02)


def test_random_words_are_unit_vectors_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Weights("hub", "openai/clip-vit-base-patch16", shape=TINY_VIT)
    variant = dataclasses.replace(maskclip.VARIANTS["vit-b16"], weights=small)
    monkeypatch.setitem(maskclip.VARIANTS, "vit-b16", variant)  # type: ignore[arg-type]
    model = stand_in.load(Model("maskclip/vit-b16", changes={"short_side": 64}))
    classifier = model.segmenter.embed_text(Vocabulary("a, b, c"), BARE)
    assert torch.allclose(classifier.weight.norm(dim=1), torch.ones(3), atol=1e-5)
    assert (classifier.weight @ classifier.weight.T).fill_diagonal_(0).abs().max() < 0.9
    assert classifier.scale == pytest.approx(100, rel=0.01)
    assert model.inference.short_side == 64


def test_embedded_weights_are_used_as_they_are() -> None:
    segmenter = stand_in.load(Model("maskclip/mini", dtype="fp32")).segmenter
    known, _ = catalog.load("maskclip/mini")
    assert torch.equal(segmenter.clip.log_scale, known.clip.log_scale)  # type: ignore[attr-defined]
    words = Vocabulary("cat, dog")
    assert torch.equal(segmenter.embed_text(words, BARE).weight, known.embed_text(words, BARE).weight)


def test_weights_that_are_neither_here_nor_known_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="give a folder or file"):
        stand_in.load(Model("maskclip/vit-b16", weights=str(tmp_path / "nothing")))


def test_a_method_that_knows_its_own_architecture_makes_random_weights_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(segclip.SHAPES, "vit-b16", TINY_VIT)
    model = stand_in.load(Model("segclip/vit-b16", changes={"short_side": 32, "window": 32, "stride": 32}))
    assert isinstance(model.segmenter, segclip.SegClip)
    assert model.segmenter.vision.width == TINY_VIT.vision_width
    assert len(model.segment(np.zeros((40, 32, 3), np.uint8), "a, b, c").names) == 3


def test_a_groupvit_of_the_published_shape_stands_in_for_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Weights("hub", "nvidia/groupvit-gcc-yfcc", shape=groupvit.TINY)
    variant = dataclasses.replace(groupvit.VARIANTS["cc-yfcc"], weights=small)
    monkeypatch.setitem(groupvit.VARIANTS, "cc-yfcc", variant)  # type: ignore[arg-type]
    model = stand_in.load(Model("groupvit/cc-yfcc", changes={"short_side": 64}))
    classifier = model.segmenter.embed_text(Vocabulary("a, b, c"), BARE)
    assert (classifier.weight @ classifier.weight.T).fill_diagonal_(0).abs().max() < 0.9
    assert classifier.scale == pytest.approx(100, rel=0.01)
    assert model.segmenter.patch == groupvit.TINY.patch
