"""A file in a folder is a name to type; what is loaded is that file's variant with the settings asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import lexiseg
from lexiseg import catalog
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import LexisegError, SettingError, UnknownName, WeightsError
from lexiseg.segmenter import Inference, Variant
from lexiseg.weights import Weights

MINI = Weights("asset", "mini-clip")


@dataclass(frozen=True)
class Config:
    depth: int = 12
    key_smoothing: bool = False


def method(**variants: Variant) -> Any:
    module = ModuleType("a method")
    module.Config = Config
    module.VARIANTS = variants
    module.PRESETS = {"paper": {"key_smoothing": True, "short_side": 448}}
    module.load = lambda variant: SimpleNamespace(variant=variant)
    return module


@pytest.fixture(autouse=True)
def shelf(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two methods in place of the real ones."""
    mini = Variant(Config(), MINI, Inference(short_side=224), "embedded")
    methods = {
        "maskclip": method(
            mini=mini, tiny=Variant(Config(depth=2), None, Inference()), custom=Variant(Config(), None, Inference())
        ),
        "simseg": method(tiny=Variant(Config(depth=1), None, Inference())),
    }
    real_names, real_get = catalog.names, catalog.get
    monkeypatch.setattr(catalog, "names", lambda shelf: sorted(methods) if shelf == "methods" else real_names(shelf))
    monkeypatch.setattr(catalog, "get", lambda shelf, name: methods[name] if name in methods else real_get(shelf, name))
    return methods


def loaded(model: Any, **given: Any) -> Variant:
    segmenter, inference = catalog.load(model, **given)
    assert inference == segmenter.variant.inference
    return segmenter.variant


def test_a_model_is_a_method_and_a_variant() -> None:
    assert loaded("maskclip/tiny").config == Config(depth=2)
    assert loaded("simseg/tiny").config == Config(depth=1)


def test_a_method_alone_means_its_mini() -> None:
    assert loaded("maskclip") == loaded("maskclip/mini")


def test_a_method_with_weights_of_ones_own_means_its_custom_variant(shelf: dict[str, Any]) -> None:
    assert loaded("maskclip", weights="some/hub-id").weights == Weights("hub", "some/hub-id")
    assert loaded("maskclip", weights="some/hub-id").inference == Inference()
    del shelf["maskclip"].VARIANTS["custom"]
    assert loaded("maskclip", weights="some/hub-id").inference == Inference(short_side=224)


def test_weights_replace_those_of_the_variant(tmp_path: Path) -> None:
    assert loaded("maskclip/mini").weights == MINI
    assert loaded("maskclip/mini", weights=tmp_path).weights == Weights("file", str(tmp_path))


def test_other_weights_must_still_be_of_the_variants_architecture(shelf: dict[str, Any], tmp_path: Path) -> None:
    own = Weights("hub", "some/clip", shape=TINY_VIT)
    shelf["maskclip"].VARIANTS["vit"] = Variant(Config(), own, Inference())
    assert loaded("maskclip/vit", weights=tmp_path).weights == Weights("file", str(tmp_path), shape=TINY_VIT)


def test_a_setting_goes_to_the_config_or_to_inference_whichever_has_it() -> None:
    variant = loaded("maskclip/mini", depth="24", short_side=336, prompts="single")
    assert variant.config == Config(depth=24)
    assert variant.inference == Inference(short_side=336, prompts="single")


def test_a_preset_is_applied_first_and_settings_of_ones_own_over_it() -> None:
    assert loaded("maskclip/mini", preset="paper").config.key_smoothing
    assert loaded("maskclip/mini", preset="paper").inference.short_side == 448
    variant = loaded("maskclip/mini", preset="paper", short_side=512)
    assert (variant.config.key_smoothing, variant.inference.short_side) == (True, 512)


def test_loading_leaves_the_variant_in_the_table_alone(shelf: dict[str, Any]) -> None:
    loaded("maskclip/mini", depth=1, short_side=5, weights="x")
    assert shelf["maskclip"].VARIANTS["mini"] == Variant(Config(), MINI, Inference(short_side=224), "embedded")


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        ("maskclp/tiny", {}, "no model is called 'maskclp/tiny'; did you mean 'maskclip/tiny'"),
        ("maskclip/tny", {}, "no model is called 'maskclip/tny'; did you mean 'maskclip/tiny'"),
        ("simseg", {}, "no model is called 'simseg'.*'simseg/tiny'"),  # it has no mini
        ("", {}, "no model is called ''"),
        ("maskclip/mini", {"preset": "papr"}, "no preset is called 'papr'; did you mean 'paper'"),
        ("maskclip/mini", {"dept": 3}, "no setting is called 'dept'; did you mean 'depth'"),
        ("maskclip/mini", {"short_sid": 3}, "did you mean 'short_side'"),
    ],
)
def test_names_that_do_not_exist_offer_the_nearest(model: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UnknownName, match=says):
        catalog.load(model, **given)


def test_a_setting_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(SettingError, match="depth='deep' does not fit int"):
        catalog.load("maskclip/mini", depth="deep")


def test_every_model_is_listed_with_its_variant() -> None:
    assert list(catalog.models()) == ["maskclip/mini", "maskclip/tiny", "maskclip/custom", "simseg/tiny"]


def test_a_described_folder_is_a_model(tmp_path: Path) -> None:
    catalog.describe(tmp_path, "simseg", Config(depth=7), Inference(size=(64, 96)), steps=100)
    variant = loaded(tmp_path)
    assert variant.config == Config(depth=7)
    assert variant.inference == Inference(size=(64, 96))
    assert variant.weights == Weights("file", str(tmp_path))
    assert loaded(str(tmp_path), depth=8).config == Config(depth=8)
    content = json.loads((tmp_path / "lexiseg.json").read_text())
    assert (content["method"], content["version"], content["steps"]) == ("simseg", lexiseg.__version__, 100)


def test_a_folder_without_a_description_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no lexiseg\.json.*name the method too"):
        catalog.load(tmp_path)


def test_a_folder_that_happens_to_have_a_methods_name_does_not_hide_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maskclip" / "mini").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert loaded("maskclip/mini").weights == MINI


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"method": "maskclip", "config": {}}',
        b'{"method": "nope", "config": {}, "inference": {}}',
        b'{"method": 5, "config": {}, "inference": {}}',
        b'{"method": "maskclip", "config": 5, "inference": {}}',
        b'{"method": "maskclip", "config": {"depth": "deep"}, "inference": {}}',
        b'{"method": "maskclip", "config": {"width": 5}, "inference": {}}',
        b'{"method": "maskclip", "config": {}, "inference": {"mean": [1]}}',
    ],
)
def test_a_description_that_cannot_be_read_is_an_error_a_user_can_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lexiseg.json").write_bytes(content)
    with pytest.raises(LexisegError):
        catalog.load(tmp_path)


def described(folder: Path, **changes: Any) -> Path:
    catalog.describe(folder, "simseg", Config(depth=7), Inference())
    content = json.loads((folder / "lexiseg.json").read_text()) | changes
    (folder / "lexiseg.json").write_text(json.dumps(content))
    return folder


def test_a_folder_of_another_major_version_says_which_lexiseg_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(described(tmp_path, version="0.97.3")).config == Config(depth=7)
    assert loaded(described(tmp_path, version=None)).config == Config(depth=7)  # written by hand
    for look in (catalog.load, catalog.variant_of):
        with pytest.raises(WeightsError, match=r"saved by lexiseg 1\.2\.0, and this is lexiseg 0\..* 'lexiseg==1\.\*'"):
            look(described(tmp_path, version="1.2.0"))
        with pytest.raises(WeightsError, match="says version 'new', which is not one"):
            look(described(tmp_path, version="new"))
    monkeypatch.setattr(lexiseg, "__version__", "2.0.1")
    with pytest.raises(WeightsError, match=r"use lexiseg 0\.x"):
        loaded(described(tmp_path, version="0.1.0"))
    assert loaded(described(tmp_path, version="2.9")).config == Config(depth=7)


@pytest.mark.parametrize("name", ["mine.txt", "learned.safetensors"])
def test_prompts_of_a_file_go_with_a_saved_model(shelf: dict[str, Any], tmp_path: Path, name: str) -> None:
    kept = Prompts(("my {}",)) if name.endswith(".txt") else Prompts(context=torch.randn(2, 3))
    kept.save(tmp_path / name)
    shelf["simseg"].save = lambda segmenter, folder: None
    segmenter: Any = SimpleNamespace(config=Config())
    inference = Inference(prompts=str(tmp_path / name))
    catalog.save(segmenter, tmp_path / "saved", method="simseg", inference=inference)
    (tmp_path / name).unlink()
    (tmp_path / "saved").rename(tmp_path / "elsewhere")
    assert Prompts.open(loaded(tmp_path / "elsewhere").inference.prompts) == kept
    catalog.save(segmenter, tmp_path / "named", method="simseg", inference=Inference(prompts="vild14"))
    assert loaded(tmp_path / "named").inference.prompts == "vild14"
    assert [path.name for path in (tmp_path / "named").iterdir()] == ["lexiseg.json"]


@pytest.mark.parametrize("shelf_name", ["recipes", "benchmarks", "refine"])
def test_a_shelf_lists_its_files_but_those_with_an_underscore(shelf_name: str) -> None:
    folder = Path(catalog.__file__).parent / shelf_name
    public = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert catalog.names(shelf_name) == sorted(public)


def test_what_is_not_on_a_shelf_is_an_unknown_name_of_its_kind() -> None:
    with pytest.raises(UnknownName, match="no benchmark is called 'voc12'"):
        catalog.get("benchmarks", "voc12")


def test_the_name_of_a_methods_file_opens_that_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = [], catalog.get
    monkeypatch.setattr(catalog, "get", lambda shelf, name: (opened.append(name), real(shelf, name))[1])
    catalog.resolve("simseg/tiny")
    assert set(opened) == {"simseg"}


def test_a_system_that_is_a_set_of_recipes_names_its_method(shelf: dict[str, Any]) -> None:
    shelf["maskclip"].SYSTEMS = ("maskclip_plus",)
    assert loaded("maskclip_plus/tiny") == loaded("maskclip/tiny")
    with pytest.raises(UnknownName, match="maskclip/mini"):
        catalog.resolve("maskclip_plus/mimi")
