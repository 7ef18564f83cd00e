"""Protocols are data: what they name exists, and they say what the papers' code does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import lexiseg
from lexiseg import catalog, settings
from lexiseg.benchmarks import _benchmark, _classes
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError, UnknownName
from lexiseg.evaluation.choosing import PUBLISHED, choose, named, protocol, studies
from lexiseg.evaluation.protocols import LEXISEG, Protocol
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import load
from lexiseg.inference import devices
from lexiseg.inference.preprocess import target_size
from lexiseg.inference.windows import boxes
from lexiseg.metrics.scores import AVERAGES
from lexiseg.segmenter import Inference

METHODS = catalog.names(PUBLISHED)
EVERY = [
    study.protocol(method, benchmark) for method in METHODS for study in studies(method) for benchmark in study.rows
]
FIELDS = {field.name for field in dataclasses.fields(Inference)}


def inference(chosen: Protocol) -> Inference:
    own = {key: value for key, value in chosen.settings.items() if key in FIELDS}
    return settings.change(Inference(), own)


def title(chosen: Protocol) -> str:
    return f"{chosen.method} {chosen.name} {chosen.benchmark}"


@pytest.mark.parametrize("chosen", EVERY, ids=title)
def test_all_that_a_protocol_names_exists(chosen: Protocol) -> None:
    benchmark = _benchmark.get(chosen.benchmark).chosen(chosen.options)
    if chosen.wording is not None:
        assert benchmark.classes is not None
        assert chosen.wording in _classes.wordings(benchmark.classes)
    if chosen.background is not None:
        assert benchmark.background
        assert _classes.background_words(chosen.background)
    assert chosen.average in AVERAGES
    assert chosen.source
    assert Prompts.open(inference(chosen).prompts)


@pytest.mark.parametrize("chosen", [each for each in EVERY if each.method in catalog.names("methods")], ids=title)
def test_settings_of_a_protocol_are_those_of_its_method(chosen: Protocol) -> None:
    module = catalog.get("methods", chosen.method)
    variant = next(iter(module.VARIANTS))
    _, changed = catalog.resolve(f"{chosen.method}/{variant}", preset=chosen.preset, **chosen.settings)
    for key, value in chosen.settings.items():
        part: Any = changed.config if hasattr(changed.config, key) else changed.inference
        assert getattr(part, key) == value


def test_variants_that_authors_measured_exist() -> None:
    for method in {*METHODS} & {*catalog.names("methods")}:
        for study in studies(method):
            assert set(study.variants) <= set(catalog.get("methods", method).VARIANTS)


def test_names_are_given_once_per_method_and_benchmark() -> None:
    keys = [title(chosen) for chosen in EVERY]
    assert len(set(keys)) == len(keys)


def test_published_weights_are_measured_as_published_and_others_as_they_are() -> None:
    assert protocol("maskclip", "voc20", variant="vit-b16").name == "released"
    assert protocol("maskclip", "voc20", variant="mini").name == LEXISEG
    assert protocol("maskclip", "folder", variant="vit-b16").name == LEXISEG
    assert protocol("maskclip", "voc20", "released", variant="mini").name == "released"
    assert protocol("s_seg", "voc21", variant="swin-s").name == "paper"
    assert protocol("student", "voc_15_5", variant="deeplabv2-r101").name == "maskclip_plus"
    assert protocol("student", "voc_15_5", variant="mini").name == LEXISEG


@pytest.mark.parametrize(
    ("name", "weights", "chosen"),
    [
        ("simseg/vit-b16", "simseg.vit-b.pth", "released"),
        ("maskclip/rn50", "RN50.pt", "released"),
        ("maskclip/custom", "my-clip", LEXISEG),
        ("maskclip/mini", None, LEXISEG),
    ],
)
def test_weights_from_a_file_keep_the_protocol_of_their_variant(name: str, weights: str | None, chosen: str) -> None:
    assert choose(Setup(Model(name, weights=weights), "voc20" if "maskclip" in name else "voc21")).name == chosen


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"variant": "vit-b16", "converted_from": "simseg.vit-b.pth"}, "released"),
        ({"recipe": {"model": "simseg/vit-s16"}}, "released"),
        ({"recipe": {"model": "simseg/custom"}}, LEXISEG),
        ({"recipe": None}, LEXISEG),
        ({}, LEXISEG),
    ],
)
def test_a_saved_folder_is_measured_as_the_variant_that_it_says(
    tmp_path: Path, facts: dict[str, Any], name: str
) -> None:
    config = catalog.get("methods", "simseg").Config()
    catalog.describe(tmp_path, "simseg", config, Inference(), **facts)
    chosen = choose(Setup(Model(str(tmp_path)), "context60"))
    assert chosen.name == name
    assert chosen.settings.get("ranked_classes") == (30 if name == "released" else None)
    assert choose(Setup(Model(str(tmp_path)), "context60", protocol=LEXISEG)).name == LEXISEG


@pytest.mark.parametrize(("asked", "used"), [("auto", "float32"), ("bf16", "bfloat16")])
def test_published_protocols_use_the_precision_of_their_authors(
    monkeypatch: pytest.MonkeyPatch, asked: str, used: str
) -> None:
    monkeypatch.setattr(devices, "_cpu_has", lambda probe: probe == "_is_avx512_bf16_supported")
    for name in ("released", "paper"):
        chosen = protocol("maskclip", "context59", name)
        assert load(Model("maskclip/tiny", dtype=asked), chosen).settings["dtype"] == used
    assert load(Model("maskclip/tiny", dtype=asked), protocol("maskclip", "folder")).settings["dtype"] == "bfloat16"


def test_released_maskclip_upsamples_twice_as_mmsegmentation_does() -> None:
    """Grid to resized picture, resized picture to photograph, argmax; in windows, their mean in between."""
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (50, 70, 3), np.uint8)
    words = ["cat", "dog", "tree", "sky"]
    chosen = protocol("maskclip", "voc20", "released")
    for window in (None, 64):
        changes = {"short_side": 96, "prompts": "single", "window": window, "stride": 40}
        predictor = load(Model("maskclip/tiny", device="cpu", changes=changes), chosen)
        size = target_size(50, 70, predictor.inference)
        total, cover = torch.zeros(1, 4, *size), torch.zeros(1, 1, *size)
        for box, view in predictor.embed(photo).views:
            logits = predictor.segmenter.classify(view, predictor.embed_text(words)).logits
            total[:, :, *box.slices] += functional.interpolate(logits, box.size, mode="bilinear", align_corners=False)
            cover[:, :, *box.slices] += 1
        twice = functional.interpolate(total / cover, (50, 70), mode="bilinear", align_corners=False)
        assert np.array_equal(predictor.segment(photo, words).labels, twice.argmax(1)[0].numpy())


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("simseg/tiny-clip", {}, None),
        ("simseg/tiny-clip", {"rule": "dense"}, "sclip"),
        ("simseg/mini", {}, "sclip"),
        ("simseg/mini", {"rule": "simseg"}, None),
    ],
)
def test_a_setting_decides_whether_a_method_has_a_background_of_its_own(
    name: str, changes: dict[str, str], words: str | None
) -> None:
    assert choose(Setup(Model(name, changes=changes), "voc21")).background == words
    assert choose(Setup(lexiseg.load(name, **changes), "voc21")).background == words


def test_lexiseg_adds_background_words_only_without_a_rule_of_the_method() -> None:
    assert protocol("maskclip", "voc21").background == "sclip"
    assert protocol("segclip", "voc21", own_background=True).background is None


def test_a_protocol_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UnknownName, match="did you mean 'released'"):
        protocol("maskclip", "voc20", "release")
    with pytest.raises(SettingError, match="it has one on context59, coco_stuff171"):
        protocol("maskclip", "voc20", "paper")
    assert "released" in named("maskclip")


@pytest.mark.parametrize(
    ("method", "benchmark", "photo", "resized", "windows"),
    [
        # (height, width) of the worked examples: simseg.md §6.2, maskclip.md §2.2
        ("segclip", "voc21", (375, 500), (224, 299), 2),
        ("groupvit", "voc21", (375, 500), (448, 597), 2),
        ("simseg", "voc21", (375, 500), (288, 288), 1),
        ("zsseg", "ade150", (375, 500), (512, 683), 1),
        ("zsseg", "coco_stuff_156_15", (375, 500), (640, 853), 1),
    ],
)
def test_photographs_get_the_size_and_windows_of_the_papers(
    method: str, benchmark: str, photo: tuple[int, int], resized: tuple[int, int], windows: int
) -> None:
    chosen = inference(protocol(method, benchmark, "released"))
    size = target_size(*photo, chosen)
    assert size == resized
    assert len(boxes(size, chosen.window, chosen.stride, multiple=1)) == windows


@pytest.mark.parametrize(
    ("benchmark", "photo", "resized"),
    [
        ("voc20", (375, 500), (512, 683)),
        ("voc20", (100, 1000), (205, 2048)),  # the long side would pass 2048
        ("context59", (375, 500), (390, 520)),
        ("cityscapes19", (1024, 2048), (512, 1024)),
    ],
)
def test_maskclip_sees_photographs_as_its_code_resized_them(
    benchmark: str, photo: tuple[int, int], resized: tuple[int, int]
) -> None:
    chosen = protocol("maskclip", benchmark, "released")
    _, variant = catalog.resolve("maskclip/vit-b16", preset=chosen.preset, **chosen.settings)
    assert target_size(*photo, variant.inference) == resized
    assert not variant.inference.antialias


def test_what_is_asked_for_on_top_of_a_protocol_counts() -> None:
    chosen = Protocol("simseg", "folder", "released", "", settings={"size": (288, 288)})
    model = Model("simseg/tiny-clip", changes={"long_side": "96"})
    assert target_size(50, 100, load(model, chosen).inference) == (48, 96)
    chosen = protocol("maskclip", "voc20", "released")
    model = Model("maskclip/tiny", preset="lexiseg", changes={"size": "64, 64"})
    assert target_size(50, 100, load(model, chosen).inference) == (64, 64)


def test_thresholds_are_those_of_the_released_configurations() -> None:
    table = {
        (chosen.method, chosen.name, chosen.benchmark): chosen.settings["product_threshold"]
        for chosen in EVERY
        if "product_threshold" in chosen.settings
    }
    assert table["segclip", "released", "voc21"] == 0.80
    assert table["segclip", "paper", "voc21"] == 0.75
    assert [table["groupvit", "released", name] for name in ("voc21", "context60", "coco_object")] == [0.95, 0.35, 0.95]
    assert [table["groupvit", "paper", name] for name in ("voc21", "context60")] == [0.9, 0.5]
