"""One text names weights wherever they are named, and what cannot be fetched is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from lexiseg import catalog
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT, ClipShape
from lexiseg.encoders.weights import find
from lexiseg.errors import WeightsError
from lexiseg.weights import Weights


@pytest.mark.parametrize(
    ("text", "kind", "name", "layout"),
    [
        ("asset:mini-clip", "asset", "mini-clip", None),
        ("openai/clip-vit-base-patch16", "hub", "openai/clip-vit-base-patch16", None),
        ("clip:openai/clip-vit-base-patch16", "hub", "openai/clip-vit-base-patch16", "clip"),
        ("clip:asset:mini-clip", "asset", "mini-clip", "clip"),
        ("transformers:runs/a/model", "file", "runs/a/model", "transformers"),
        ("models/RN50.pt", "file", "models/RN50.pt", None),  # not on the hub, whatever it looks like
        ("./some/where", "file", "./some/where", None),
        ("~/where", "file", "~/where", None),
        ("C:/weights", "file", "C:/weights", None),
        ("", "file", "", None),
    ],
)
def test_a_text_names_an_asset_a_path_or_a_hub_id(text: str, kind: str, name: str, layout: str | None) -> None:
    weights = Weights.of(text)
    assert (weights.kind, weights.name, weights.layout) == (kind, name, layout)
    assert str(weights) == text
    assert Weights.of(weights) is weights


def test_a_path_that_exists_goes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Weights.of("someone/clip").kind == "hub"
    (tmp_path / "someone" / "clip").mkdir(parents=True)
    assert Weights.of("someone/clip").kind == "file"
    assert Weights.of(tmp_path).is_here
    assert not Weights.of("someone/else").is_here
    assert Weights.of("asset:mini-clip").is_here


def test_weights_to_fetch_by_hand_say_what_they_are_where_they_are_and_which_option_takes_them() -> None:
    weights = Weights("by_hand", "RN50.pt", "get it from its authors", sha256="abc", pickled=True)
    with pytest.raises(WeightsError) as caught:
        find(weights)
    for part in ("RN50.pt", "get it from its authors", "SHA-256 abc", "weights=FILE and allow_pickle=True"):
        assert part in str(caught.value)
    assert "allow_pickle" not in Weights("by_hand", "RN50.pt", "ask").missing()
    with pytest.raises(WeightsError, match=r"nothing of a network has been published: train it; .* weights=FOLDER"):
        find(Weights("none", "a network", "train it"))


def test_every_variant_can_be_loaded_from_here_downloaded_or_says_what_to_do() -> None:
    for name, variant in catalog.models().items():
        weights = variant.weights
        assert weights is None or weights.kind != "file", name
        if weights is not None and weights.kind in ("by_hand", "none"):
            assert weights.how_to_get, name
        # a checkpoint of ZSSeg is no CLIP: `fit` compares it with the method's own architecture, name by name
        if weights is not None and weights.kind in ("by_hand", "hub") and name != "zsseg/rn101":
            assert weights.shape is not None, name  # so that nothing else is taken for them


def test_weights_of_another_architecture_are_refused_and_both_are_described() -> None:
    wanted = Weights("hub", "some/clip", shape=TINY_VIT)
    wanted.check(TINY_VIT)
    wanted.check(ClipShape(32, 32, 64, 2, 8, 64, 2, context=32, vocabulary=4093, activation="gelu", norm_eps=1e-6))
    with pytest.raises(WeightsError, match=r"some/clip holds a CLIP with a ResNet.*this model is a CLIP with a ViT"):
        wanted.check(TINY_RESNET)
    with pytest.raises(WeightsError, match="the method alone"):
        wanted.check(ClipShape(32, 32, 64, 2, 16, 64, 2, context=32, vocabulary=4093))
    Weights.of("some/clip").check(TINY_RESNET)
