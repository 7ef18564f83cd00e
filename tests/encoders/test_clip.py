from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT, ClipShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.weights import find
from lexiseg.errors import WeightsError
from lexiseg.layers.pixels import CLIP_MEAN, CLIP_STD

WORDS = ["cat", "a very long word of many tokens indeed", "sky", "traffic light"]
PROMPTS = Prompts(("a photo of a {}.", "{}", "there is the {} in the scene, seen from very far away."))


@pytest.fixture
def clip(folder: Path) -> Clip:
    return Clip.load(folder)


def hand_made(model: CLIPModel, folder: Path, words: list[str], sentences: Sequence[str]) -> Tensor:
    """The recipe of clip.md §1.8 with transformers alone: one padded row after the other, full context, masked."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for word in words:
        batch = tokenizer(
            [sentence.format(word).lower() for sentence in sentences],
            padding="max_length", max_length=32, truncation=True, return_tensors="pt",
        )  # fmt: skip
        features = model.get_text_features(**batch).pooler_output
        mean = (features / features.norm(dim=-1, keepdim=True)).mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


# -- features ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_text_features_are_those_of_transformers(clip: Clip, model: CLIPModel) -> None:
    rows = clip.tokenizer(["a photo of a cat.", "sky", "a red bus in the rain"])
    ids = torch.tensor([row + [0] * (20 - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (20 - len(row)) for row in rows])
    theirs = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    torch.testing.assert_close(clip.text_features(ids), theirs, atol=1e-5, rtol=0)


@torch.no_grad()
def test_image_features_are_those_of_transformers(clip: Clip, model: CLIPModel) -> None:
    images = torch.randn(2, 3, 32, 32)
    theirs = model.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(clip.image_features(images), theirs, atol=1e-5, rtol=0)


def test_words_are_averaged_as_the_papers_do(clip: Clip, model: CLIPModel, folder: Path) -> None:
    vectors = clip.embed_words(WORDS, PROMPTS)
    torch.testing.assert_close(vectors, hand_made(model, folder, WORDS, PROMPTS.sentences), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(WORDS)))
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad


def test_a_word_s_vector_does_not_depend_on_its_company(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    together = clip.embed_words(WORDS, PROMPTS)
    alone = torch.cat([clip.embed_words([word], PROMPTS) for word in WORDS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.embed_words(WORDS[::-1], PROMPTS), together.flip(0), atol=1e-5, rtol=0)
    monkeypatch.setattr("lexiseg.encoders.clip.SENTENCES_AT_ONCE", 4)
    monkeypatch.setattr("lexiseg.encoders.clip.TOKENS_AT_ONCE", 40)
    torch.testing.assert_close(clip.embed_words(WORDS, PROMPTS), together, atol=1e-5, rtol=0)


def test_a_word_given_twice_has_two_equal_rows(clip: Clip) -> None:
    vectors = clip.embed_words(["cat", "sky", "cat"], PROMPTS)
    assert torch.equal(vectors[0], vectors[2])


def test_sentences_that_begin_alike_share_a_batch(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, plain = [], clip.sentence_features
    monkeypatch.setattr(clip, "sentence_features", lambda rows, *_: (batches.append(rows), plain(rows))[1])
    monkeypatch.setattr("lexiseg.encoders.clip.TOKENS_AT_ONCE", 64)
    clip.embed_words([f"cat {'x ' * (n % 9)}{n}" for n in range(60)], Prompts(("a {}", "the {}")))
    assert all(len(rows) * max(map(len, rows)) <= 64 or len(rows) == 1 for rows in batches)
    flat = [row for rows in batches for row in rows]
    assert flat == sorted(flat)
    assert len(flat) == 120


def test_a_sentence_that_occurs_twice_is_embedded_once(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = clip.embed_words(["cat", "sky"], PROMPTS)
    seen, plain = [], clip.sentence_features
    monkeypatch.setattr(clip, "sentence_features", lambda rows, *_: (seen.extend(rows), plain(rows))[1])
    found = clip.embed_words(["cat", "Cat", " cat ", "sky"], PROMPTS)
    assert len(seen) == 2 * len(PROMPTS.sentences)
    torch.testing.assert_close(found, expected[[0, 0, 0, 1]], atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_config_that_says_end_token_2_is_read_at_the_right_place(folder: Path, clip: Clip) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2  # as OpenAI's models were first converted
    (folder / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(Clip.load(folder).embed_words(WORDS, PROMPTS), clip.embed_words(WORDS, PROMPTS))


@torch.no_grad()
def test_the_end_token_counts_where_it_is_not_the_highest_id(clip: Clip) -> None:
    # a word added after training has a higher id than the end token; transformers' old rule would stop there
    row = clip.tokenizer(["a cat"])[0]
    ids = torch.tensor([[*row, 7, 8]])
    torch.testing.assert_close(clip.text_features(ids), clip.text_features(torch.tensor([row])), atol=1e-5, rtol=0)
    clip.tokenizer.backend.eos_token = clip.tokenizer.backend.convert_ids_to_tokens(row[1])
    end = clip.text_features(torch.tensor([row]))
    torch.testing.assert_close(end, clip.text_features(torch.tensor([row[:2]])), atol=1e-5, rtol=0)


def test_half_precision_gives_nearly_the_same_words(folder: Path, clip: Clip) -> None:
    half = Clip.load(folder, dtype=torch.bfloat16)
    assert half.embed_words(WORDS, PROMPTS).dtype == torch.float32
    cosine = (half.embed_words(WORDS, PROMPTS) * clip.embed_words(WORDS, PROMPTS)).sum(1)
    assert cosine.min() > 0.999


# -- the cache --------------------------------------------------------------------------------------------------------


def test_cached_words_do_not_reach_the_text_tower_again(
    clip: Clip, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TextCache(tmp_path / "cache")
    fresh = clip.embed_words(WORDS, PROMPTS, cache=cache)
    again = Clip.load(folder)
    monkeypatch.setattr(again, "sentence_features", None)
    assert torch.equal(again.embed_words(WORDS[::-1], PROMPTS, cache=cache), fresh.flip(0))
    with pytest.raises(TypeError):
        again.embed_words(["new"], PROMPTS, cache=cache)


def test_the_cache_is_keyed_by_what_the_text_tower_is(clip: Clip, folder: Path, model: CLIPModel) -> None:
    digest = clip.text_digest()
    assert Clip.load(folder).text_digest() == digest
    assert Clip.load(folder, dtype=torch.float16).text_digest() != digest
    clip.vision.projection.weight.data.zero_()
    assert clip.text_digest() == digest  # the image side does not matter
    clip.text_model.final_layer_norm.bias.data += 1  # unseen by torch's version counters
    changed = clip.text_digest()
    assert changed != digest
    with torch.no_grad():
        clip.text_model.final_layer_norm.bias[1] -= 1  # one number of many
    assert clip.text_digest() not in (changed, digest)
    clip.load_state_dict(Clip.load(folder).state_dict())
    assert clip.text_digest() == digest
    other = Clip.load(folder)
    other.tokenizer.context = 16
    assert other.text_digest() != digest


def test_a_cache_folder_that_cannot_be_written_changes_nothing(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    vectors = clip.embed_words(WORDS, PROMPTS, cache=TextCache(tmp_path / "file"))
    assert torch.equal(vectors, clip.embed_words(WORDS, PROMPTS))


# -- loading and saving -----------------------------------------------------------------------------------------------


def test_a_saved_model_is_one_that_transformers_loads(clip: Clip, model: CLIPModel, tmp_path: Path) -> None:
    clip.save(tmp_path / "saved")
    theirs, info = CLIPModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor), name
    ids = AutoTokenizer.from_pretrained(tmp_path / "saved")(["a photo of a cat."])["input_ids"]
    assert ids == clip.tokenizer(["a photo of a cat."])


@pytest.mark.parametrize("shape", [TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def test_the_tiny_ones_are_small_random_and_repeatable(shape: ClipShape, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    clip, twin, other = Clip.random(shape), Clip.random(shape), Clip.random(shape, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    images = torch.randn(2, 3, 70, 45)
    with torch.no_grad():
        assert torch.equal(clip.image_features(images), twin.image_features(images))
        assert not torch.equal(clip.image_features(images), other.image_features(images))
        clip.save(tmp_path)
        again = Clip.load(tmp_path)
        assert torch.equal(again.vision.dense(images), clip.vision.dense(images))
        assert torch.equal(again.embed_words(WORDS, PROMPTS), clip.embed_words(WORDS, PROMPTS))
    assert sum(p.numel() for p in clip.parameters()) < 2_000_000
    assert (clip.embed_dim, clip.patch) == (shape.embed_dim, shape.patch or 32)
    assert not clip.training


def test_the_statistics_beside_the_weights_are_used_and_kept(clip: Clip, folder: Path, tmp_path: Path) -> None:
    assert (clip.mean, clip.std) == (CLIP_MEAN, CLIP_STD)
    content = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    other = Clip.load(folder)
    assert (other.mean, other.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    other.save(tmp_path / "saved")
    assert Clip.load(tmp_path / "saved").mean == (0.5, 0.4, 0.3)
    for broken in ("3", "[1, 2]", '["a", 1, 2]'):
        (folder / "preprocessor_config.json").write_text(f'{{"image_mean": {broken}}}')
        with pytest.raises(WeightsError, match="image_mean"):
            Clip.load(folder)


def test_activation_and_epsilon_follow_the_weights(clip: Clip) -> None:
    assert clip.vision.model.config.hidden_act == "quick_gelu"
    assert {m.eps for m in clip.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}
    assert Clip.load("asset:mini-clip").vision.model.config.hidden_act == "gelu"


@torch.no_grad()
def test_the_embedded_model_is_what_transformers_makes_of_it() -> None:
    clip = Clip.load("asset:mini-clip")
    theirs = CLIPModel.from_pretrained(find("asset:mini-clip"), dtype=torch.float32)
    images = torch.randn(1, 3, 128, 128)
    pooled = theirs.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(clip.image_features(images), pooled, atol=1e-5, rtol=1e-5)
    words = ["dog", "sky", "grass"]
    vectors = hand_made(theirs, find("asset:mini-clip"), words, Prompts.open("single").sentences)
    torch.testing.assert_close(clip.embed_words(words, Prompts.open("single")), vectors, atol=1e-5, rtol=0)
    assert clip.logit_scale == pytest.approx(theirs.logit_scale.exp().item())


def test_a_config_as_the_hub_s_old_ones_is_understood(folder: Path, clip: Clip) -> None:
    # the first conversions hold each part twice, settings of text generation, and tensors that are only counters
    config = json.loads((folder / "config.json").read_text())
    old = {"_name_or_path": "", "torch_dtype": "float32", "num_beams": 1, "pruned_heads": {}, "eos_token_id": 2}
    for part in ("text_config", "vision_config"):
        config[part] |= {**old, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "transformers_version": "4.16.0.dev0"}
        config[f"{part}_dict"] = {
            key: config[part][key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")
        } | {key: value for key, value in config[part].items() if key not in old and key != "model_type"}
    config["torch_dtype"] = config.pop("dtype", "float32")
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    again = Clip.load(folder)
    assert torch.equal(again.embed_words(WORDS, PROMPTS), clip.embed_words(WORDS, PROMPTS))
    assert again.vision.image_size == 32


def test_every_tensor_that_a_folder_lacks_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_model.final_layer_norm.bias"], tensors["vision_model.encoder.layers.0.mlp.fc1.weight"]
    tensors["visual_projection.weight"] = torch.zeros(3, 128)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError) as caught:
        Clip.load(folder)
    for part in (
        str(folder),
        "text_model.final_layer_norm.bias [64] is missing",
        "vision_model.encoder.layers.0.mlp.fc1.weight [512, 128] is missing",
        "visual_projection.weight is [3, 128] instead of [48, 128]",
    ):
        assert part in str(caught.value)


def test_pickled_weights_are_refused_unless_asked_for(folder: Path, clip: Clip) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="allow_pickle=True"):
        Clip.load(folder)
    again = Clip.load(folder, allow_pickle=True)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), clip.parameters(), strict=True))


def test_the_weights_file_may_be_named_in_place_of_its_folder(folder: Path, clip: Clip) -> None:
    again = Clip.load(folder / "model.safetensors")
    assert torch.equal(again.text_projection.weight, clip.text_projection.weight)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"model_type": "siglip"}, "'siglip', which is no CLIP"),
        ({"model_type": "clip", "text_config": {"hidden_size": 63, "num_attention_heads": 2}}, "does not describe"),
        ({"model_type": "lexiseg_clip_resnet", "resnet": {"layers": [1]}}, "does not describe"),
        ({}, "which is no CLIP"),
    ],
)
def test_a_config_of_something_else_is_an_error(folder: Path, config: dict[str, object], complaint: str) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=complaint):
        Clip.load(folder)


def test_a_tokenizer_with_more_words_than_the_weights_is_an_error(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 100
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="know only 100 tokens"):
        Clip.load(folder)


def test_missing_weights_without_a_network_fail_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a port that nobody listens on stands in for the hub
    monkeypatch.setattr("lexiseg.encoders.weights.HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    monkeypatch.setattr("lexiseg.encoders.weights.HF_HUB_CACHE", str(tmp_path))
    start = time.perf_counter()
    with pytest.raises(WeightsError, match="nobody/has-this is not on this machine"):
        Clip.load("nobody/has-this")
    assert time.perf_counter() - start < 10
