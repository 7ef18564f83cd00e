"""GroupViT's towers (docs/papers/groupvit.md): exactly transformers' numbers, at any size, from either layout."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from groupvit_files import authors_layout
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, GroupViTModel

from lexiseg.encoders.groupvit_towers import Groups, GroupVit, GroupVitShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import pad
from lexiseg.encoders.weights import find
from lexiseg.errors import WeightsError
from lexiseg.weights import Weights

TWO = GroupVitShape((2, 1, 1), (6, 4), (6, 3), 32, 8, 64, 64, 2, 24, 40, context=32, vocabulary=4093)
ONE = dataclasses.replace(TWO, depths=(2, 2), group_tokens=(6,), groups=(3,))
SENTENCES = ["a photo of a cat.", "two dogs on grass", "sky"]
SHAPES = pytest.mark.parametrize("shape", [TWO, ONE], ids=["two stages", "one stage"])


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def towers(shape: GroupVitShape = TWO) -> GroupVit:
    """With numbers that differ from those of fresh norms, biases and statistics, which are 0 or 1."""
    torch.manual_seed(0)
    made = GroupVit.random(shape)
    for tensor in (*made.parameters(), *made.buffers()):
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data += 0.1 * torch.rand(tensor.shape)
    return made


def theirs(made: GroupVit, folder: Path) -> Any:
    made.save(folder)
    model = GroupViTModel.from_pretrained(folder).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # what lies in the file unaligned is rounded otherwise
    return model


def equal(one: GroupVit, other: GroupVit) -> bool:
    tensors = other.state_dict()
    return one.state_dict().keys() == tensors.keys() and all(
        torch.equal(each, tensors[name]) for name, each in one.state_dict().items()
    )


# --- transformers' numbers


@SHAPES
@pytest.mark.parametrize("training", [True, False])  # gradients, three together; none, one alone
def test_pictures_of_the_towers_own_size_have_exactly_transformers_numbers(
    shape: GroupVitShape, training: bool, tmp_path: Path
) -> None:
    made, images = towers(shape), randn(3 if training else 1, 3, 32, 32)
    model = theirs(made, tmp_path)
    with torch.set_grad_enabled(training):
        seen = model.vision_model(images, output_attentions=True, return_dict=True)
        image, groups = made.image_features(images)
    assert groups.tokens.requires_grad == training
    assert torch.equal(groups.tokens, seen.last_hidden_state)
    assert len(groups.assignments) == len(seen.attentions) == len(shape.groups)
    assert all(torch.equal(one, other) for one, other in zip(groups.assignments, seen.attentions, strict=True))
    assert torch.equal(image, model.visual_projection(seen.pooler_output))
    assert torch.equal(
        made.vision.project(groups.tokens).flatten(0, 1), model.visual_projection(groups.tokens.flatten(0, 1))
    )


@torch.no_grad()
def test_without_gradients_pictures_pass_one_by_one() -> None:
    """On a CPU, where that is faster; the numbers of all together differ by rounding alone."""
    made, images = towers(), randn(3, 3, 32, 32)
    one_by_one = made.vision(images)
    for place in range(3):
        assert torch.equal(one_by_one.tokens[place], made.vision(images[place : place + 1]).tokens[0])
    with torch.enable_grad():
        together = made.vision(images)
    torch.testing.assert_close(one_by_one.tokens, together.tokens, atol=1e-5, rtol=0)


@torch.no_grad()
def test_sentences_have_exactly_transformers_numbers(tmp_path: Path) -> None:
    made = towers()
    model, rows = theirs(made, tmp_path), made.text.tokenizer(SENTENCES)
    ids = pad(rows)
    model.text_model.eos_token_id = made.text.tokenizer.end
    expected = model.text_projection(model.text_model(ids).pooler_output)
    assert torch.equal(made.text.text_features(ids), expected)
    # many sentences at once, each common beginning only once
    torch.testing.assert_close(made.text.sentence_features(rows), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_words_are_means_of_unit_vectors() -> None:
    made, prompts = towers(), Prompts(("a photo of a {}.", "{}"))
    rows = made.text.tokenizer(["a photo of a cat.", "cat"])
    expected = functional.normalize(functional.normalize(made.text.text_features(pad(rows)), dim=1).mean(0), dim=0)
    found = made.text.embed_words(["dog", "cat"], prompts)
    torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=0)


@SHAPES
@pytest.mark.parametrize("size", [(32, 64), (40, 24), (16, 64), (8, 8)])
@torch.no_grad()
def test_pictures_of_other_sizes_have_stretched_positions(
    shape: GroupVitShape, size: tuple[int, int], tmp_path: Path
) -> None:
    """16 x 64 pixels have as many patches as 32 x 32, from which transformers and the authors guess the grid."""
    made, images = towers(shape), randn(2, 3, *size)
    model = theirs(made, tmp_path).vision_model
    grid = size[0] // 8, size[1] // 8
    table = model.embeddings.position_embeddings.reshape(1, 4, 4, 64).permute(0, 3, 1, 2)
    table = functional.interpolate(table, grid, mode="bicubic", align_corners=False).flatten(2).mT
    patches = model.embeddings.patch_embeddings.projection(images).flatten(2).mT
    states = model.embeddings.layernorm(patches) + table
    seen = model.encoder(states, output_attentions=True, return_dict=True)
    groups = made.vision(images)
    assert groups.grid == grid
    torch.testing.assert_close(groups.tokens, model.layernorm(seen.last_hidden_state), atol=1e-5, rtol=0)
    for one, other in zip(groups.assignments, seen.attentions, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@torch.no_grad()
def test_sides_are_padded_to_whole_patches_with_the_mean_colour() -> None:
    made, images = towers(), randn(2, 3, 21, 35)
    whole = torch.zeros(2, 3, 24, 40)
    whole[..., :21, :35] = images
    one, other = made.vision(images), made.vision(whole)
    assert one.grid == (3, 5)
    assert torch.equal(one.tokens, other.tokens)


def test_shares_are_products_of_the_blocks_shares() -> None:
    """§5.5, 1, patch by patch: of a group of the second block, by way of every group of the first."""
    low, high = randn(2, 5, 12).softmax(1), randn(2, 3, 5, seed=1).softmax(1)
    groups = Groups(torch.zeros(2, 3, 8), (low, high), (3, 4))
    soft, hard = groups.shares(), groups.shares(hard=True)
    assert soft.shape == hard.shape == (2, 3, 3, 4)
    for image in range(2):
        for patch in range(12):
            row, column = divmod(patch, 4)
            first = int(low[image, :, patch].argmax())
            for group in range(3):
                by_way = sum(float(high[image, group, each] * low[image, each, patch]) for each in range(5))
                assert float(soft[image, group, row, column]) == pytest.approx(by_way, abs=1e-6)
                assert float(hard[image, group, row, column]) == float(int(high[image, :, first].argmax()) == group)
    torch.testing.assert_close(soft.sum(1), torch.ones(2, 3, 4))


def test_fresh_weights_are_drawn_by_the_global_generator() -> None:
    torch.manual_seed(3)
    one = GroupVit.random(TWO)
    torch.manual_seed(3)
    assert equal(one, GroupVit.random(TWO))
    assert not equal(one, GroupVit.random(TWO))
    first, second = (stage.group_token.detach() for stage in one.vision.model.encoder.stages[:2])
    assert float(first.std()) == pytest.approx(0.02, rel=0.2)
    assert not second.any()
    assert float(one.vision.model.embeddings.position_embeddings.detach().std()) == pytest.approx(0.02, rel=0.1)


# --- words between runs


def test_words_are_kept_between_runs_but_not_for_another_projector(tmp_path: Path) -> None:
    prompts, cache = Prompts.open("single"), TextCache(tmp_path)
    one = towers()
    kept = one.text.embed_words(["cat", "sky"], prompts, cache=cache)
    again = towers()
    again.text.word_vectors = None  # type: ignore[assignment,method-assign]  # what is kept needs no text tower
    assert torch.equal(again.text.embed_words(["cat", "sky"], prompts, cache=cache), kept)
    for name in ("text_projection.3.weight", "text_projection.1.running_var", "text_model.final_layer_norm.bias"):
        other = towers()
        other.text.state_dict()[name].mul_(-2 if "var" not in name else 2)
        fresh = other.text.embed_words(["cat", "sky"], prompts)
        assert not torch.equal(fresh, kept)
        assert torch.equal(other.text.embed_words(["cat", "sky"], prompts, cache=cache), fresh)


@torch.no_grad()
def test_learned_prompts_stand_where_tokens_do() -> None:
    made = towers()
    table = made.text.text_model.embeddings.token_embedding.weight
    row = made.text.tokenizer(["red cat"])[0]
    context = table[row[1:2]]  # the vector of "red", if it is one token
    if len(row) != 4:
        pytest.fail("the tokenizer splits red or cat")
    learned = made.text.embed_words(["cat"], Prompts((), context))
    torch.testing.assert_close(learned, made.text.embed_words(["cat"], Prompts(("red {}",))), atol=1e-5, rtol=0)


# --- files


@SHAPES
def test_what_is_saved_loads_again_and_in_transformers(shape: GroupVitShape, tmp_path: Path) -> None:
    made = towers(shape)
    model = theirs(made, tmp_path)
    assert equal(GroupVit.load(tmp_path), made)
    assert GroupVit.load(tmp_path).shape == shape
    assert equal(GroupVit.load(tmp_path / "model.safetensors"), made)
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert words(["a cat"])["input_ids"] == made.text.tokenizer(["a cat"])
    assert model.config.vision_config.depths == list(shape.depths)


def test_a_folder_of_transformers_loads(tmp_path: Path) -> None:
    """As on the hub, and with the counter that older versions stored."""
    made = towers()
    model = theirs(made, tmp_path / "ours")
    model.save_pretrained(tmp_path / "hub")
    made.text.tokenizer.save(tmp_path / "hub")
    assert equal(GroupVit.load(tmp_path / "hub"), made)
    tensors = load_file(tmp_path / "hub" / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(tensors, tmp_path / "hub" / "model.safetensors", metadata={"format": "pt"})
    assert equal(GroupVit.load(tmp_path / "hub"), made)


def checkpoint(made: GroupVit, folder: Path) -> Path:
    """As the authors publish theirs, in a folder with a tokenizer."""
    model = theirs(made, folder / "transformers")
    made.text.tokenizer.save(folder / "authors")
    file = folder / "authors" / "group_vit.pth"
    torch.save({"model": authors_layout(model), "epoch": 29, "max_accuracy": 0.4}, file)
    return file


@SHAPES
def test_a_checkpoint_of_the_authors_loads(shape: GroupVitShape, tmp_path: Path) -> None:
    made = towers(shape)
    loaded = GroupVit.load(checkpoint(made, tmp_path), allow_pickle=True)
    assert equal(loaded, made)
    assert loaded.shape == shape
    assert not loaded.training


def test_a_checkpoint_finds_its_tokenizer(tmp_path: Path) -> None:
    file = checkpoint(towers(), tmp_path)
    alone = tmp_path / "alone" / "group_vit.pth"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    with pytest.raises(WeightsError, match="clip-vit-base-patch32"):  # which it shares with CLIP, and is not here
        GroupVit.load(alone, allow_pickle=True)
    found = GroupVit.load(alone, tokenizer=find("asset:mini-clip"), allow_pickle=True)
    assert found.text.tokenizer.context == 32


def test_pickles_are_read_where_they_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="allow_pickle"):
        GroupVit.load(checkpoint(towers(), tmp_path))


def test_every_name_of_a_checkpoint_is_checked(tmp_path: Path) -> None:
    file = checkpoint(towers(), tmp_path)
    content = torch.load(file)

    def load(**changes: Tensor | None) -> None:
        tensors = {name: each for name, each in {**content["model"], **changes}.items() if each is not None}
        torch.save({"model": tensors}, file)
        GroupVit.load(file, allow_pickle=True)

    def refused(**changes: Tensor | None) -> str:
        with pytest.raises(WeightsError) as error:
            load(**changes)
        return str(error.value)

    load()
    load(multi_label_logit_scale=None)  # which the model of RedCaps does not have
    names = content["model"].keys() - {"multi_label_logit_scale"}
    telling = {name for name in names if re.search(r"img_encoder\.p|group_token|linear_out\.w|mlp_inter\.fc2\.w", name)}
    telling |= {"img_projector.linear_hidden.0.weight", "text_encoder.positional_embedding"}
    telling |= {"text_encoder.token_embedding.weight"}
    for name in telling:  # they tell the shape
        assert name in refused(**{name: None})
    counted = {name for name in names if name.endswith(("norm1.weight", "ln_1.weight"))}  # else layers are gone
    for rest in (counted, names - telling - counted):
        missing = refused(**dict.fromkeys(rest))
        assert all(f"{name} [" in missing for name in rest)
        misshapen = refused(**{name: torch.zeros(2, 2, 2, 2) for name in rest})
        assert all(f"{name} is [2, 2, 2, 2]" in misshapen for name in rest)
    with pytest.raises(WeightsError, match=r"does not have: img_encoder\.cls_token"):
        load(**{"img_encoder.cls_token": torch.zeros(1)})


def test_other_weights_are_told(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"does not hold GroupViT's towers: img_encoder\.patch_embed"):
        GroupVit.load(tmp_path / "other.safetensors")
    towers().save(tmp_path / "model")
    with pytest.raises(
        WeightsError, match=r"2-1-1 layers of 64 with 6 and 3 groups.*this model is a GroupViT of 6-3-3"
    ):
        GroupVit.load(dataclasses.replace(Weights.of(tmp_path / "model"), shape=GroupVitShape()))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "model_type": "clip"}))
    with pytest.raises(WeightsError, match="model_type 'clip', which is not a GroupViT"):
        GroupVit.load(tmp_path / "model")


def test_the_published_shape_has_the_published_size() -> None:
    """§5.1 and §5.3: the image tower and the text tower, without projectors."""
    from transformers import GroupViTConfig

    shape = GroupVitShape()
    config = GroupViTConfig.from_dict(shape.config())
    with torch.device("meta"):
        model = GroupViTModel(config)
        usual = GroupViTModel(GroupViTConfig())
    names = {name: each.shape for name, each in usual.state_dict().items()}
    assert {name: each.shape for name, each in model.state_dict().items()} == names
    sizes = [sum(each.numel() for each in tower.parameters()) for tower in (model.vision_model, model.text_model)]
    assert [round(size / 1e6, 2) for size in sizes] == [28.84, 22.15]
