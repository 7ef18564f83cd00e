from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lexiseg import catalog
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape, build
from lexiseg.errors import WeightsError
from lexiseg.evaluation.setup import Model
from lexiseg.speed import stand_in
from lexiseg.vocabulary import Vocabulary

# millions of parameters of the image towers, as OpenCLIP's table of model profiles lists them
MILLIONS = {
    "openai/clip-vit-base-patch32": 87.85,
    "openai/clip-vit-base-patch16": 86.19,
    "openai/clip-vit-large-patch14": 303.97,
    "openai/clip-vit-large-patch14-336": 304.29,
    "official:RN50.pt": 38.32,
    "official:RN101.pt": 56.26,
    "official:RN50x4.pt": 87.14,
    "official:RN50x16.pt": 167.33,
    "official:RN50x64.pt": 420.38,
}


@pytest.mark.parametrize("weights", MILLIONS)
def test_shapes_are_those_of_the_published_weights(weights: str) -> None:
    shape = stand_in.SHAPES[weights]
    assert isinstance(shape, ClipShape)
    with torch.device("meta"):
        vision = build(shape.config())[0]
    assert sum(weight.numel() for weight in vision.parameters()) / 1e6 == pytest.approx(MILLIONS[weights], abs=0.02)


def test_every_published_variant_has_a_shape() -> None:
    for name, variant in catalog.models().items():
        if name.startswith(("maskclip/", "simseg/")) and variant.weights and not variant.weights.startswith("asset:"):
            assert variant.weights in stand_in.SHAPES, name


def test_random_words_are_unit_vectors_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stand_in.SHAPES, "openai/clip-vit-base-patch16", TINY_VIT)
    model = stand_in.load(Model("maskclip/vit-b16", changes={"short_side": 64}))
    classifier = model.segmenter.embed_text(Vocabulary("a, b, c"), ["{}"])
    assert torch.allclose(classifier.weight.norm(dim=1), torch.ones(3), atol=1e-5)
    assert (classifier.weight @ classifier.weight.T).fill_diagonal_(0).abs().max() < 0.9
    assert classifier.scale == pytest.approx(100, rel=0.01)
    assert model.inference.short_side == 64


def test_embedded_weights_are_used_as_they_are() -> None:
    segmenter = stand_in.load(Model("maskclip/mini", dtype="fp32")).segmenter
    known, _ = catalog.load("maskclip/mini")
    assert torch.equal(segmenter.clip.log_scale, known.clip.log_scale)  # type: ignore[attr-defined]
    words = Vocabulary("cat, dog")
    assert torch.equal(segmenter.embed_text(words, ["{}"]).weight, known.embed_text(words, ["{}"]).weight)


def test_weights_that_are_neither_here_nor_known_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="give a folder or file"):
        stand_in.load(Model("maskclip/vit-b16", weights=str(tmp_path / "nothing")))
