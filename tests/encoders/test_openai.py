from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from openai_files import half_precise, resnet_tensors, vit_tensors, write_archive
from torch import Tensor
from transformers import CLIPModel

from lexiseg.encoders import clip as clip_module
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_resnet import ClipResNet, ResNetShape
from lexiseg.encoders.clip_shape import ClipShape
from lexiseg.encoders.openai import infer_shape, origin, read_file
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.errors import WeightsError

SENTENCES = ["a photo of a cat.", "sky"]


@pytest.fixture(scope="module")
def trunk() -> ClipResNet:
    torch.manual_seed(1)
    return half_precise(ClipResNet(ResNetShape((2, 1, 1, 1), 8, 64, 48)).eval()).requires_grad_(False)


@pytest.fixture
def vit_file(model: CLIPModel, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "official")
    return write_archive(vit_tensors(model), tmp_path / "official" / "ViT.pt")


@pytest.fixture
def resnet_file(trunk: ClipResNet, model: CLIPModel, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "official")
    return write_archive(resnet_tensors(trunk, model), tmp_path / "official" / "RN.pt")


def ids(clip: Clip) -> Tensor:
    return torch.tensor([row + [0] * (10 - len(row)) for row in clip.tokenizer(SENTENCES)])


def test_the_archive_is_a_real_one(vit_file: Path) -> None:
    state = torch.jit.load(vit_file).state_dict()
    assert state["visual.proj"].dtype == torch.float16
    assert {"input_resolution", "context_length", "vocab_size"} <= set(state)


@torch.no_grad()
def test_a_vit_gives_the_features_of_the_same_weights_in_a_transformers_folder(vit_file: Path, folder: Path) -> None:
    official, saved = Clip.load(vit_file), Clip.load(folder)
    images = torch.randn(2, 3, 40, 70)
    for mine, theirs in (
        (official.image_features(images), saved.image_features(images)),
        (official.vision.dense(images), saved.vision.dense(images)),
        (official.text_features(ids(official)), saved.text_features(ids(saved))),
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert official.logit_scale == pytest.approx(saved.logit_scale)
    assert official.vision.image_size == saved.vision.image_size == 32


@torch.no_grad()
def test_a_resnet_gives_the_features_of_the_towers_it_was_made_of(
    resnet_file: Path, trunk: ClipResNet, model: CLIPModel
) -> None:
    clip = Clip.load(resnet_file)
    images = torch.randn(2, 3, 96, 70)
    torch.testing.assert_close(clip.image_features(images), trunk(images), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.vision.trunk(images), trunk.trunk(images), atol=1e-5, rtol=0)
    text = model.get_text_features(input_ids=ids(clip)).pooler_output
    torch.testing.assert_close(clip.text_features(ids(clip)), text, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_resnet_survives_being_saved_to_a_folder(resnet_file: Path, tmp_path: Path) -> None:
    clip, images = Clip.load(resnet_file), torch.randn(1, 3, 64, 96)
    clip.save(tmp_path / "saved")
    again = Clip.load(tmp_path / "saved")
    assert torch.equal(again.image_features(images), clip.image_features(images))
    single = Prompts.open("single")
    assert torch.equal(again.embed_words(["cat"], single), clip.embed_words(["cat"], single))


@torch.no_grad()
def test_a_vit_saved_from_an_archive_is_a_transformers_folder(vit_file: Path, model: CLIPModel, tmp_path: Path) -> None:
    Clip.load(vit_file).save(tmp_path / "saved")
    theirs, info = CLIPModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor), name


def test_the_weights_get_the_type_asked_for(vit_file: Path) -> None:
    assert {p.dtype for p in Clip.load(vit_file, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}
    assert {p.dtype for p in Clip.load(vit_file).parameters()} == {torch.float32}


def test_every_tensor_that_is_missing_or_misshapen_is_named_as_in_the_file(
    model: CLIPModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tensors = vit_tensors(model)
    del tensors["visual.proj"], tensors["transformer.resblocks.0.ln_1.bias"]
    tensors["visual.transformer.resblocks.1.attn.in_proj_weight"] = torch.zeros(100, 128)
    tokenizer.save(tmp_path)
    with pytest.raises(WeightsError) as caught:
        Clip.load(write_archive(tensors, tmp_path / "ViT.pt"))
    for part in (
        "visual.proj [128, 48] is missing",
        "transformer.resblocks.0.ln_1.bias [64] is missing",
        "visual.transformer.resblocks.1.attn.in_proj_weight is [100, 128] instead of [384, 128]",
    ):
        assert part in str(caught.value)
    assert str(caught.value).count("in_proj_weight") == 1


def test_an_archive_of_something_else_is_named_as_such(tmp_path: Path) -> None:
    file = write_archive({"logit_scale": torch.zeros(()), "fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"does not hold a CLIP.*token_embedding\.weight"):
        Clip.load(file)


def test_a_plain_state_dict_is_read_only_when_pickles_are_allowed(
    model: CLIPModel, tokenizer: Tokenizer, vit_file: Path, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    torch.save(vit_tensors(model), tmp_path / "plain.pt")
    with pytest.raises(WeightsError, match="allow_pickle=True"):
        Clip.load(tmp_path / "plain.pt")
    plain, official = Clip.load(tmp_path / "plain.pt", allow_pickle=True), Clip.load(vit_file)
    for name, tensor in official.state_dict().items():
        assert torch.equal(plain.state_dict()[name], tensor), name


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ViT.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"ViT\.pt"):
        Clip.load(tmp_path / "ViT.pt")
    with pytest.raises(WeightsError, match=r"ViT\.pt"):
        Clip.load(tmp_path / "ViT.pt", allow_pickle=True)


def test_a_file_without_a_tokenizer_says_where_to_get_one(
    vit_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone.pt"
    shutil.copy(vit_file, alone)
    monkeypatch.setattr(clip_module, "OPENAI_TOKENIZER", str(tmp_path / "absent.json"))
    with pytest.raises(WeightsError, match=r"bpe_simple_vocab_16e6.*tokenizer="):
        Clip.load(alone)
    assert Clip.load(alone, tokenizer=vit_file.parent).tokenizer.context == 32
    assert Clip.load(alone, tokenizer="asset:mini-clip").tokenizer.context == 32


# docs/papers/clip.md §1.1; parameters as OpenAI and open_clip's model profile count them, in millions
OFFICIAL = {
    "RN50": (ClipShape(1024, 224, 64, (3, 4, 6, 3), None, 512, 12), 102.01),
    "RN101": (ClipShape(512, 224, 64, (3, 4, 23, 3), None, 512, 12), 119.69),
    "RN50x4": (ClipShape(640, 288, 80, (4, 6, 10, 6), None, 640, 12), 178.30),
    "RN50x16": (ClipShape(768, 384, 96, (6, 8, 18, 8), None, 768, 12), 290.98),
    "RN50x64": (ClipShape(1024, 448, 128, (3, 15, 36, 10), None, 1024, 12), 623.26),
    "ViT-B/32": (ClipShape(512, 224, 768, 12, 32, 512, 12), 151.28),
    "ViT-B/16": (ClipShape(512, 224, 768, 12, 16, 512, 12), 149.62),
    "ViT-L/14": (ClipShape(768, 224, 1024, 24, 14, 768, 12), 427.62),
    "ViT-L/14@336px": (ClipShape(768, 336, 1024, 24, 14, 768, 12), 427.94),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_openai_s_nine_are_told_by_their_shapes(name: str, tokenizer: Tokenizer) -> None:
    shape, millions = OFFICIAL[name]
    with torch.device("meta"):
        clip = Clip(shape.config(), tokenizer)
        assert round(sum(p.numel() for p in clip.parameters()) / 1e6, 2) == pytest.approx(millions)
        stored = {}
        for ours, tensor in clip.state_dict().items():
            place = origin(ours)
            stored[place.name] = torch.empty(place.shape(tensor.shape))
    assert infer_shape(stored, Path("file.pt")) == shape
    assert clip.text_model.config.num_attention_heads == shape.text_width // 64


def test_a_layer_that_is_missing_in_the_middle_is_noticed(model: CLIPModel) -> None:
    tensors = {name: t for name, t in vit_tensors(model).items() if ".resblocks.1." not in name or "visual" not in name}
    assert infer_shape(tensors, Path("file.pt")).vision_layers == 3


def test_the_three_scalars_are_dropped(vit_file: Path) -> None:
    assert not {"input_resolution", "context_length", "vocab_size"} & set(read_file(vit_file))


def test_our_names_lead_to_all_of_openai_s(model: CLIPModel) -> None:
    shape = infer_shape(vit_tensors(model), Path("file.pt"))
    vit = Clip.random(shape)
    assert {origin(name).name for name in vit.state_dict()} == set(vit_tensors(model))
