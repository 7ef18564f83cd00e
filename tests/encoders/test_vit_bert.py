"""A ViT with BERT in the authors' layout, against a float64 forward pass written from simseg.md §2.1 alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, ViTConfig, ViTForImageClassification

from lexiseg.encoders.opening import open_towers
from lexiseg.encoders.token_towers import ClipTokens
from lexiseg.encoders.vit_bert import TINY, VitBert, VitBertShape
from lexiseg.encoders.weights import find
from lexiseg.encoders.wordpiece import LETTERS, WordPieces
from lexiseg.errors import WeightsError

Tensors = dict[str, Tensor]
SENTENCES = ["a photo of a cat.", "sky"]
WIDTH, HEADS, LAYERS, PATCH, GRID, PIECES = 128, 2, 2, 8, 4, len(LETTERS)


def released_tensors(seed: int = 0) -> Tensors:
    """Random numbers under the names and in the shapes of a released checkpoint (§2.1)."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.15

    image, text = "image_encoder.model.model.", "text_encoder.model.model."
    tensors = {
        f"{image}cls_token": rand(1, 1, WIDTH),
        f"{image}pos_embed": rand(1, 1 + GRID**2, WIDTH),
        f"{image}patch_embed.proj.weight": rand(WIDTH, 3, PATCH, PATCH),
        f"{image}patch_embed.proj.bias": rand(WIDTH),
        f"{text}embeddings.word_embeddings.weight": rand(PIECES, 64),
        f"{text}embeddings.position_embeddings.weight": rand(30, 64),
        f"{text}embeddings.token_type_embeddings.weight": rand(2, 64),
        "image_projection.linear.weight": rand(24, WIDTH),
        "text_projection.linear.weight": rand(24, 64),
        "loss.temperature": torch.tensor(0.017),
    }
    linear = {}
    for block in range(LAYERS):
        place = f"{image}blocks.{block}."
        linear |= {f"{place}attn.qkv": (3 * WIDTH, WIDTH), f"{place}attn.proj": (WIDTH, WIDTH)}
        linear |= {f"{place}mlp.fc1": (4 * WIDTH, WIDTH), f"{place}mlp.fc2": (WIDTH, 4 * WIDTH)}
        linear |= {f"{place}norm1": (WIDTH,), f"{place}norm2": (WIDTH,)}
        place = f"{text}encoder.layer.{block}."
        linear |= {f"{place}attention.self.{part}": (64, 64) for part in ("query", "key", "value")}
        linear |= {f"{place}attention.output.dense": (64, 64), f"{place}attention.output.LayerNorm": (64,)}
        linear |= {f"{place}intermediate.dense": (256, 64), f"{place}output.dense": (64, 256)}
        linear |= {f"{place}output.LayerNorm": (64,)}
    linear |= {f"{image}norm": (WIDTH,), f"{text}embeddings.LayerNorm": (64,)}
    for name, shape in linear.items():
        tensors[f"{name}.weight"] = rand(*shape) + (len(shape) == 1)
        tensors[f"{name}.bias"] = rand(shape[0])
    return tensors


def reference(tensors: Tensors) -> Callable[[str], Callable[..., Tensor]]:
    """Linear maps and layer norms by name, in float64."""

    def at(name: str) -> Callable[..., Tensor]:
        weight, bias = tensors[f"{name}.weight"].double(), tensors[f"{name}.bias"].double()
        if weight.ndim == 1:
            return lambda x, eps: functional.layer_norm(x, x.shape[-1:], weight, bias, eps)
        return lambda x: functional.linear(x, weight, bias)

    return at


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        weights = weights.masked_fill(~mask[:, None, None], -math.inf)
    return (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)


def reference_image(tensors: Tensors, images: Tensor) -> Tensor:
    """A pre-norm ViT with exact GELU and epsilon 1e-6, all tokens through the last LN and the projection."""
    at, image = reference(tensors), "image_encoder.model.model."
    weight, bias = (tensors[f"{image}patch_embed.proj.{kind}"].double() for kind in ("weight", "bias"))
    cells = functional.conv2d(images.double(), weight, bias, stride=PATCH)
    positions = tensors[f"{image}pos_embed"].double()
    table = positions[:, 1:].unflatten(1, (GRID, GRID)).permute(0, 3, 1, 2)
    table = functional.interpolate(table, size=cells.shape[-2:], mode="bicubic", align_corners=False)
    x = torch.cat([tensors[f"{image}cls_token"].double().expand(len(images), 1, -1), cells.flatten(2).mT], 1)
    x = x + torch.cat([positions[:, :1], table.flatten(2).mT], 1)
    for block in range(LAYERS):
        place = f"{image}blocks.{block}."
        q, k, v = at(f"{place}attn.qkv")(at(f"{place}norm1")(x, 1e-6)).chunk(3, -1)
        x = x + at(f"{place}attn.proj")(attend(q, k, v, HEADS))
        x = x + at(f"{place}mlp.fc2")(functional.gelu(at(f"{place}mlp.fc1")(at(f"{place}norm2")(x, 1e-6))))
    return at(f"{image}norm")(x, 1e-6) @ tensors["image_projection.linear.weight"].double().T


def reference_text(tensors: Tensors, ids: Tensor, mask: Tensor) -> Tensor:
    """A post-norm BERT with exact GELU and epsilon 1e-12, projected."""
    at, text = reference(tensors), "text_encoder.model.model."
    tables = {name: tensors[f"{text}embeddings.{name}_embeddings.weight"].double() for name in ("word", "token_type")}
    positions = tensors[f"{text}embeddings.position_embeddings.weight"].double()
    x = tables["word"][ids] + positions[: ids.shape[1]] + tables["token_type"][0]
    x = at(f"{text}embeddings.LayerNorm")(x, 1e-12)
    for block in range(LAYERS):
        place = f"{text}encoder.layer.{block}."
        q, k, v = (at(f"{place}attention.self.{part}")(x) for part in ("query", "key", "value"))
        x = x + at(f"{place}attention.output.dense")(attend(q, k, v, 1, mask))
        x = at(f"{place}attention.output.LayerNorm")(x, 1e-12)
        inner = functional.gelu(at(f"{place}intermediate.dense")(x))
        x = at(f"{place}output.LayerNorm")(x + at(f"{place}output.dense")(inner), 1e-12)
    return x @ tensors["text_projection.linear.weight"].double().T


def write(tensors: Tensors, folder: Path) -> Path:
    """A released file with a tokenizer beside it."""
    WordPieces.of_letters().save(folder)
    torch.save({"state_dict": tensors, "epoch": 20}, folder / "simseg.pth")
    return folder / "simseg.pth"


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (48, 32), (64, 16), (30, 41)])
def test_a_released_checkpoint_gives_the_outputs_of_an_independent_forward_pass(
    size: tuple[int, int], tmp_path: Path
) -> None:
    tensors = released_tensors()
    towers = open_towers(write(tensors, tmp_path), allow_pickle=True)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    tokens, grid = towers.image_tokens(images)
    padded = functional.pad(images, (0, -size[1] % PATCH, 0, -size[0] % PATCH))
    assert grid == (math.ceil(size[0] / PATCH), math.ceil(size[1] / PATCH))
    torch.testing.assert_close(tokens.double(), reference_image(tensors, padded), atol=2e-5, rtol=1e-4)
    for padded_text in (False, True):
        found = towers.text_tokens(SENTENCES, length=25, padded=padded_text)
        ids, mask = WordPieces.of_letters()(SENTENCES, length=25, padded=padded_text)
        assert found.vectors.shape[1] == (25 if padded_text else ids.shape[1])
        torch.testing.assert_close(found.vectors.double(), reference_text(tensors, ids, mask), atol=2e-5, rtol=1e-4)
        assert torch.equal(found.mask, mask)
        assert found.summary.tolist() == [0, 0]
    assert towers.temperature.item() == pytest.approx(0.017)


@torch.no_grad()
def test_saving_keeps_the_authors_names_and_every_number(tmp_path: Path) -> None:
    tensors = released_tensors()
    towers = open_towers(write(tensors, tmp_path), allow_pickle=True)
    towers.save(tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensors[name]) for name in tensors)
    again = open_towers(tmp_path / "saved")
    images = torch.randn(1, 3, 40, 32)
    assert torch.equal(again.image_tokens(images)[0], towers.image_tokens(images)[0])
    assert torch.equal(
        again.text_tokens(SENTENCES, length=25).vectors, towers.text_tokens(SENTENCES, length=25).vectors
    )


def test_a_temperature_of_one_element_and_old_counters_are_understood(tmp_path: Path) -> None:
    tensors = released_tensors()
    tensors["loss.temperature"] = tensors["loss.temperature"][None]
    tensors["text_encoder.model.model.embeddings.position_ids"] = torch.arange(30)[None]
    assert open_towers(write(tensors, tmp_path), allow_pickle=True).temperature.shape == ()


def test_every_missing_and_misshapen_tensor_is_named(tmp_path: Path) -> None:
    tensors = released_tensors()
    del tensors["image_encoder.model.model.blocks.0.attn.qkv.weight"]
    del tensors["text_encoder.model.model.encoder.layer.1.output.dense.bias"]
    tensors["text_projection.linear.weight"] = torch.zeros(24, 63)
    with pytest.raises(WeightsError) as caught:
        open_towers(write(tensors, tmp_path), allow_pickle=True)
    for part in ("blocks.0.attn.qkv.weight", "layer.1.output.dense.bias", "text_projection.linear.weight is [24, 63]"):
        assert part in str(caught.value)


def test_every_unexpected_tensor_is_named(tmp_path: Path) -> None:
    tensors = released_tensors()
    tensors |= {"image_encoder.model.model.head.weight": torch.zeros(3), "queue": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"image_encoder\.model\.model\.head\.weight, queue"):
        open_towers(write(tensors, tmp_path), allow_pickle=True)


def test_a_file_of_something_else_is_told_by_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="patch_embed"):
        open_towers(write({"weight": torch.zeros(2)}, tmp_path), allow_pickle=True)


def test_pickles_need_a_flag_and_never_run_code(tmp_path: Path) -> None:
    path = write(released_tensors(), tmp_path)
    with pytest.raises(WeightsError, match="allow_pickle"):
        open_towers(path)
    torch.save({"state_dict": VitBert.random(TINY)}, path)
    with pytest.raises(WeightsError, match=r"an object of the type lexiseg\.encoders\.vit_bert\.VitBert"):
        open_towers(path, allow_pickle=True)


def test_a_checkpoint_without_a_tokenizer_takes_the_one_that_is_named(tmp_path: Path) -> None:
    WordPieces.of_letters().save(tmp_path / "words")
    torch.save({"state_dict": released_tensors()}, tmp_path / "simseg.pth")
    towers = open_towers(tmp_path / "simseg.pth", tokenizer=str(tmp_path / "words"), allow_pickle=True)
    assert towers.text_tokens(["a"], length=25).mask.sum() == 3


@torch.no_grad()
def test_training_starts_from_towers_in_transformers_or_timms_layout(tmp_path: Path) -> None:
    """The same ViT from both layouts, each with a classifier that is left out, and the BERT of a language model."""
    torch.manual_seed(0)
    vit = ViTForImageClassification(
        ViTConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, image_size=32,
                  patch_size=8, layer_norm_eps=1e-6)
    ).eval()  # fmt: skip
    vit.save_pretrained(tmp_path / "vit")
    bert = BertForMaskedLM(
        BertConfig(vocab_size=PIECES, hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=256)
    ).eval()
    bert.save_pretrained(tmp_path / "bert")
    WordPieces.of_letters().save(tmp_path / "bert")
    start = VitBert.start(str(tmp_path / "vit"), str(tmp_path / "bert"), embed_dim=16)
    images = torch.randn(2, 3, 32, 32)
    expected = vit.vit(images).last_hidden_state @ start.image_projection.weight.T
    torch.testing.assert_close(start.image_tokens(images)[0], expected)
    ids, mask = start.tokenizer(SENTENCES, length=25)
    expected = bert.bert(ids, mask).last_hidden_state @ start.text_projection.weight.T
    torch.testing.assert_close(start.text_tokens(SENTENCES, length=25).vectors, expected)
    assert start.temperature.item() == pytest.approx(0.02)
    start.save(tmp_path / "saved")
    prefix = "image_encoder.model.model."
    timm = {
        n.removeprefix(prefix): t for n, t in load_file(tmp_path / "saved" / "model.safetensors").items() if prefix in n
    }
    (tmp_path / "timm").mkdir()
    save_file(
        {**timm, "head.weight": torch.zeros(3, 128), "head.bias": torch.zeros(3)},
        tmp_path / "timm" / "model.safetensors",
    )
    again = VitBert.start(str(tmp_path / "timm"), str(tmp_path / "bert"), embed_dim=16)
    assert torch.equal(again.vision(images).last_hidden_state, start.vision(images).last_hidden_state)


def test_a_tower_that_is_none_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    BertForMaskedLM(
        BertConfig(vocab_size=PIECES, hidden_size=64, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(WeightsError, match="ViTModel"):
        VitBert.start(str(tmp_path / "bert"), str(tmp_path / "bert"))


def test_the_released_shapes_have_the_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        for width, image_millions in ((384, 21.67), (768, 85.80)):
            towers = VitBert(VitBertShape(224, 16, width, 12, 768, 12), WordPieces.of_letters())
            sizes = {
                part: sum(p.numel() for p in getattr(towers, part).parameters()) / 1e6 for part in ("vision", "text")
            }
            assert sizes["vision"] == pytest.approx(image_millions, abs=0.005)
            assert sizes["text"] == pytest.approx(108.9, abs=0.05)
            assert dataclasses.asdict(TINY)["patch"] == 8


@torch.no_grad()
def test_a_clip_opens_as_tokens_that_end_in_its_own_features() -> None:
    towers = open_towers("asset:mini-clip")
    assert isinstance(towers, ClipTokens)
    images = torch.randn(1, 3, 64, 48)
    tokens, grid = towers.image_tokens(images)
    assert tokens.shape[1] == 1 + grid[0] * grid[1]
    torch.testing.assert_close(tokens[:, 0], towers.clip.image_features(images))
    vectors, mask, summary = towers.text_tokens(SENTENCES, length=25)
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in towers.clip.tokenizer(SENTENCES)], True)
    torch.testing.assert_close(vectors[[0, 1], summary], towers.clip.text_features(ids), atol=1e-5, rtol=1e-4)
    assert mask.sum(1).tolist() == (summary + 1).tolist()


def test_wordpieces_keep_the_closing_mark_when_they_cut(tmp_path: Path) -> None:
    words = WordPieces.of_letters()
    ids, mask = words(["abcdefghij", "a"], length=6, padded=True)
    assert ids.shape == (2, 6)
    assert ids[0, 0] == words.backend.cls_token_id
    assert ids[0, -1] == words.backend.sep_token_id
    assert mask.sum(1).tolist() == [6, 3]
    words.save(tmp_path)
    assert torch.equal(WordPieces.from_folder(tmp_path)(["hello"], length=9)[0], words(["hello"], length=9)[0])
    with pytest.raises(WeightsError, match="tokenizer"):
        WordPieces.from_folder(find("asset:mini-clip").parent)
