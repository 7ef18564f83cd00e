"""A saved model is the model it was saved from: weights as precise and as small, card and known words beside them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lexiseg import catalog
from lexiseg.encoders.weights import find
from lexiseg.errors import OutputError
from lexiseg.inference.predictor import Predictor, load

from .fakes import flag

WORDS = "sheep, mortgage, wall"


def numbers(folder: Path) -> Counter[str]:
    """How many tensors are of which type, of those that are not counters."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        kinds = Counter(file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118
    kinds.pop("I64", None)
    return kinds


@pytest.mark.parametrize(
    ("name", "asset"),
    [
        ("maskclip/mini", "mini-clip-lite"),
        ("maskclip/mini-vit", "mini-clip"),
        ("mini_clip/mini", "mini-clip-lite"),
        ("mini_clip_vit/mini", "mini-clip"),
        ("simseg/mini", "simseg-mini"),
        ("maskclip_plus/mini", "student-mini"),
    ],
)
def test_an_embedded_model_is_saved_with_all_that_belongs_to_it_as_small_as_it_came(
    name: str, asset: str, tmp_path: Path
) -> None:
    model = load(name, device="cpu", dtype="fp32", text_cache=False)
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", device="cpu", dtype="fp32", text_cache=False)
    source = find(f"asset:{asset}")
    for file in ("README.md", "concepts.json", "familiar.json"):
        assert (tmp_path / "saved" / file).is_file() == (source / file).is_file()
    assert set(numbers(tmp_path / "saved")) == {"F16"}
    first, second = (each.segment(flag(), WORDS) for each in (model, again))
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.scores, second.scores)
    assert first.warnings == second.warnings
    assert again.classify(model.embed(flag()), WORDS)  # it is the same model


def test_a_precision_that_weights_are_used_in_is_not_the_one_they_are_saved_in(tmp_path: Path) -> None:
    exact = load("maskclip/tiny", device="cpu", dtype="fp32")
    load("maskclip/tiny", device="cpu", dtype="bf16").save(tmp_path / "saved")
    saved, wanted = load(tmp_path / "saved", dtype="fp32").segmenter, exact.segmenter
    for one, other in zip(saved.parameters(), wanted.parameters(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_that_were_changed_since_are_saved_as_they_are(dtype: str, tmp_path: Path) -> None:
    model = load("maskclip/tiny", device="cpu", dtype=dtype)
    weight = model.segmenter.clip.vision.projection.weight  # type: ignore[attr-defined]
    weight.data.zero_()
    model.save(tmp_path / "saved")
    assert not load(tmp_path / "saved").segmenter.clip.vision.projection.weight.any()  # type: ignore[attr-defined]


def test_settings_are_saved_too(tmp_path: Path) -> None:
    model = load("maskclip/tiny", device="cpu", dtype="fp32", key_smoothing=True, window=48)
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert (again.segmenter.config, again.inference) == (model.segmenter.config, model.inference)


def test_a_segmenter_of_ones_own_is_saved_by_its_method(tmp_path: Path) -> None:
    segmenter, inference = catalog.load("maskclip/tiny")
    Predictor(segmenter, inference, name="mine", device="cpu", dtype="fp32").save(tmp_path / "saved")
    assert load(tmp_path / "saved").segmenter.config == segmenter.config


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        load("maskclip/tiny").save(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        load("maskclip/tiny").save(tmp_path / "notes.txt")


def test_a_saved_model_says_which_variant_it_is(tmp_path: Path) -> None:
    load("maskclip/tiny", device="cpu").save(tmp_path / "one")
    load(tmp_path / "one", device="cpu").save(tmp_path / "two")
    assert catalog.variant_of(tmp_path / "two") == catalog.variant_of("maskclip/tiny") == "tiny"
