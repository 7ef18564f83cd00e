from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from torch import nn

from lexiseg.encoders import weights
from lexiseg.encoders.weights import Origin, find, fit, home_of, portable, read_folder, read_json, share
from lexiseg.errors import UnknownName, WeightsError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


@pytest.fixture
def linear() -> nn.Linear:
    with torch.device("meta"):
        return nn.Linear(3, 2)


def test_tensors_are_put_where_the_names_say(linear: nn.Linear) -> None:
    fit(linear, {"weight": TENSORS["a"], "bias": TENSORS["b"], "more": torch.zeros(1)}, source="here")
    assert torch.equal(linear.weight, TENSORS["a"])
    assert torch.equal(linear.bias, TENSORS["b"])
    assert linear.weight.requires_grad


def test_what_was_put_in_does_not_follow_its_source(linear: nn.Linear) -> None:
    source = {"weight": TENSORS["a"].clone(), "bias": TENSORS["b"].clone()}
    fit(linear, source, source="here")
    source["weight"].zero_()
    assert torch.equal(linear.weight, TENSORS["a"])


def test_transposed_and_thirds_are_taken_apart() -> None:
    module = nn.ModuleDict({part: nn.Linear(4, 4, bias=False) for part in ("q", "k", "v")})
    stored = torch.randn(12, 4)
    fit(module, {"qkv": stored}, source="here", origin=lambda name: Origin("qkv", third="qkv".index(name[0])))
    assert torch.equal(torch.cat([module[part].weight for part in "qkv"]), stored)
    flat = nn.Linear(3, 2, bias=False)
    fit(flat, {"w": TENSORS["a"].T}, source="here", origin=lambda _: Origin("w", transposed=True))
    assert torch.equal(flat.weight, TENSORS["a"])


def test_numbers_get_the_type_asked_for_and_counters_keep_theirs() -> None:
    norm = nn.BatchNorm1d(2)
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in norm.state_dict().items()
    }
    fit(norm, state, source="here", dtype=torch.float64)
    assert norm.weight.dtype == torch.float64
    assert norm.num_batches_tracked.dtype == torch.int64


def test_every_tensor_that_is_missing_or_misshapen_is_named(linear: nn.Linear) -> None:
    with pytest.raises(WeightsError) as caught:
        fit(linear, {"weight": torch.zeros(3, 2)}, source="the/folder")
    assert "the/folder" in str(caught.value)
    assert "weight is [3, 2] instead of [2, 3]" in str(caught.value)
    assert "bias [2] is missing" in str(caught.value)


def test_a_folder_is_read_whole_or_in_shards(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert read_folder(tmp_path).keys() == TENSORS.keys()
    (tmp_path / "model.safetensors").unlink()
    for number, name in enumerate(TENSORS, start=1):
        save_file({name: TENSORS[name]}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    index = {"weight_map": {name: f"model-0000{n}-of-00002.safetensors" for n, name in enumerate(TENSORS, start=1)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = read_folder(tmp_path)
    assert torch.equal(found["a"], TENSORS["a"])
    assert torch.equal(found["b"], TENSORS["b"])
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match="lacks model-00002-of-00002"):
        read_folder(tmp_path)


def test_what_two_models_have_in_common_is_stored_once(tmp_path: Path) -> None:
    both, own = torch.arange(4.0), torch.ones(3)
    saved = {"text.block.weight": both, "block.bias": own, "block.half": both.half()}
    for folder, tensors in (
        ("a", {"block.weight": both, "block.bias": torch.zeros(3), "block.half": both.clone()}),
        ("b", saved),
    ):
        (tmp_path / folder).mkdir()
        save_file(tensors, tmp_path / folder / "model.safetensors")
    assert share(tmp_path / "b", str(tmp_path / "a")) == both.nbytes
    assert sorted(load_file(tmp_path / "b" / "model.safetensors")) == [
        "block.bias",
        "block.half",
    ]  # another value, another type
    read = read_folder(tmp_path / "b")
    assert read.keys() == saved.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in saved.items())
    save_file({"block.bias": own}, tmp_path / "a" / "model.safetensors")
    with pytest.raises(WeightsError, match=r"shares block\.weight with .* one version"):
        read_folder(tmp_path / "b")


def test_a_url_is_not_a_hub_id() -> None:
    with pytest.raises(WeightsError, match=r"https://example.com/w.pt is a URL, and lexiseg reads local files"):
        find("https://example.com/w.pt")


def test_a_tokenizer_that_two_models_have_in_common_is_stored_once(tmp_path: Path) -> None:
    for folder, words in (("a", "{}"), ("b", "{}"), ("c", '{"other": 1}')):
        (tmp_path / folder).mkdir()
        save_file({"weight": torch.ones(2)}, tmp_path / folder / "model.safetensors")
        (tmp_path / folder / "tokenizer.json").write_text(words)
        (tmp_path / folder / "tokenizer_config.json").write_text(folder)
    assert share(tmp_path / "b", str(tmp_path / "a")) == 2 * 4 + len("{}") + len("b")
    assert home_of("tokenizer.json", tmp_path / "b") == tmp_path / "a"
    assert home_of("config.json", tmp_path / "b") == tmp_path / "b"
    assert not list((tmp_path / "b").glob("tokenizer*"))
    share(tmp_path / "c", str(tmp_path / "a"))
    assert home_of("tokenizer.json", tmp_path / "c") == tmp_path / "c"
    assert (tmp_path / "c" / "tokenizer_config.json").is_file()
    (tmp_path / "b" / "tokenizer.json").write_text("its own")
    assert home_of("tokenizer.json", tmp_path / "b") == tmp_path / "b"


def test_the_package_holds_no_file_of_weights_or_of_words_twice() -> None:
    files = [path for path in find("asset:mini-clip").parent.rglob("*") if path.stat().st_size > 100_000]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == len(files)


def test_models_with_nothing_in_common_share_nothing(tmp_path: Path) -> None:
    for folder, value in (("a", 0.0), ("b", 1.0)):
        (tmp_path / folder).mkdir()
        save_file({"weight": torch.full((2,), value)}, tmp_path / folder / "model.safetensors")
    with pytest.raises(WeightsError, match="nothing in common"):
        share(tmp_path / "b", str(tmp_path / "a"))


def test_a_damaged_file_is_called_so(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    for damage in (data[:-3], b"", b"\xff" * 40):
        (tmp_path / "model.safetensors").write_bytes(damage)
        with pytest.raises(WeightsError, match="damaged"):
            read_folder(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        read_folder(tmp_path)


def test_pickles_are_refused_unless_asked_for(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin.*allow_pickle=True"):
        read_folder(tmp_path)
    assert torch.equal(read_folder(tmp_path, allow_pickle=True)["a"], TENSORS["a"])


class Attack:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("code has run",)


def test_a_pickle_that_was_asked_for_still_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Attack()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds an object of the type print "):
        read_folder(tmp_path, allow_pickle=True)
    assert "code has run" not in capsys.readouterr().out


def test_json_is_an_object_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        read_json(path)
    for content in ("{", "[1]", "\x00"):
        path.write_text(content)
        with pytest.raises(WeightsError, match=r"config\.json"):
            read_json(path)
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}


# -- finding ----------------------------------------------------------------------------------------------------------


def test_a_folder_and_the_embedded_models_are_found(tmp_path: Path) -> None:
    assert find(tmp_path) == tmp_path
    assert (find("asset:mini-clip") / "model.safetensors").is_file()
    with pytest.raises(UnknownName, match="mini-clip"):
        find("asset:mini-clap")


@pytest.mark.parametrize("name", ["./absent", "/absent/folder", "a/b/c", "word", "models/clip.pt", ""])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "HfApi", None)
    with pytest.raises(WeightsError, match="there is nothing at"):
        find(name) if name else find("no such thing")


class Hub:
    """Stands in for the hub: what a repository holds, what was asked for."""

    def __init__(self, tmp_path: Path, files: list[str], *, offers: tuple[Any, ...] = ()) -> None:
        self.tmp_path, self.files, self.offers = tmp_path, files, offers
        self.asked: list[dict[str, Any]] = []

    def model_info(self, repository: str, *, timeout: float) -> Any:
        assert timeout <= 10
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.files])

    def get_repo_discussions(self, repository: str, **_: Any) -> Any:
        return iter(self.offers)

    def snapshot_download(self, repository: str, *, local_files_only: bool = False, **asked: Any) -> str:
        if local_files_only:
            raise FileNotFoundError(repository)
        self.asked.append(asked)
        return str(self.tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hub]:
    def make(files: list[str], **more: Any) -> Hub:
        hub = Hub(tmp_path, files, **more)
        monkeypatch.setattr(weights, "HfApi", lambda: hub)
        monkeypatch.setattr(weights, "snapshot_download", hub.snapshot_download)
        return hub

    return make


def test_a_repository_is_downloaded_without_its_pickles(hub: Callable[..., Hub], tmp_path: Path) -> None:
    server = hub(["config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"])
    assert find("someone/clip") == tmp_path
    (asked,) = server.asked
    assert asked["revision"] == "main"
    assert "model.safetensors" in asked["allow_patterns"]
    assert not any("bin" in pattern or "flax" in pattern for pattern in asked["allow_patterns"])


def test_a_tokenizer_is_downloaded_without_the_weights(hub: Callable[..., Hub]) -> None:
    server = hub(["config.json", "model.safetensors"])
    find("someone/clip", weights_too=False)
    assert not any("model" in pattern for pattern in server.asked[0]["allow_patterns"])


def test_weights_that_the_hub_s_converter_offers_are_taken_in_place_of_pickles(hub: Callable[..., Hub]) -> None:
    title = "Adding `safetensors` variant of this model"
    offers = (
        SimpleNamespace(author="stranger", git_reference="refs/pr/1", title=title),
        SimpleNamespace(author="SFconvertbot", git_reference="refs/pr/2", title=title),
    )
    server = hub(["config.json", "pytorch_model.bin"], offers=offers)
    find("someone/clip")
    assert server.asked[0]["revision"] == "refs/pr/2"


def test_a_repository_of_pickles_is_refused_unless_asked_for(hub: Callable[..., Hub]) -> None:
    server = hub(["config.json", "pytorch_model.bin"])
    with pytest.raises(WeightsError, match="allow_pickle=True"):
        find("someone/clip")
    find("someone/clip", allow_pickle=True)
    assert "pytorch_model.bin" in server.asked[0]["allow_patterns"]


def test_no_network_says_what_is_missing_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OfflineModeIsEnabled("no route")

    monkeypatch.setattr(weights.HfApi, "model_info", offline)
    with pytest.raises(WeightsError) as caught:
        find("someone/clip-that-nobody-has")
    for part in ("someone/clip-that-nobody-has", "no route", "hf download", "maskclip/mini"):
        assert part in str(caught.value)


def in_hub_cache(cache: Path, revision: str, files: dict[str, str]) -> Path:
    """Lays files out as the hub's client keeps them."""
    home, commit = cache / "models--someone--clip", "c" * 40
    folder = home / "snapshots" / commit
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    reference = home / "refs" / revision
    reference.parent.mkdir(parents=True)
    reference.write_text(commit)
    return folder


@pytest.mark.parametrize("revision", ["main", "refs/pr/2"])
def test_what_the_hub_s_cache_holds_needs_no_network(
    revision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = in_hub_cache(tmp_path, revision, {"config.json": "{}", "model.safetensors": ""})
    monkeypatch.setattr(weights, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "HfApi", None)
    assert find("someone/clip").resolve() == folder.resolve()


def test_a_snapshot_without_weights_is_not_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_hub_cache(tmp_path, "main", {"config.json": "{}", "pytorch_model.bin": ""})
    monkeypatch.setattr(weights, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights.HfApi, "model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(WeightsError, match="offline"):
        find("someone/clip")
    assert find("someone/clip", allow_pickle=True)


def test_numbers_that_half_precision_holds_are_stored_in_it_and_others_are_not() -> None:
    exact = torch.tensor([1.5, -0.25, 0.0])
    given = {
        "fp16": exact,
        "bf16": torch.tensor([2.0**-100, 3.0]),  # too small for fp16
        "fp32": torch.tensor([1.0, 1 + 2**-20]),
        "double": exact.double(),
        "count": torch.tensor(3),
        "nan": torch.tensor([float("nan")]),
    }
    stored = portable(given)
    kinds = {name: tensor.dtype for name, tensor in stored.items()}
    assert kinds == {
        "fp16": torch.float16,
        "bf16": torch.bfloat16,
        "fp32": torch.float32,
        "double": torch.float64,
        "count": torch.int64,
        "nan": torch.float32,
    }
    for name in ("fp16", "bf16", "fp32"):
        assert torch.equal(stored[name].float(), given[name])
