"""The text tower against transformers' own, and what a projector in the projection's place changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.encoders import weights
from lexiseg.encoders.clip import EMBEDDED
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.text_transformer import TextShape, TextTransformer, open_tokenizer
from lexiseg.encoders.tokenizer import pad
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers.projector import Projector

SHAPE = TextShape(64, 2, 32)
SENTENCES = ["a photo of a cat.", "dogs on grass, under a blue sky", "a"]


@pytest.fixture(scope="module")
def text() -> TextTransformer:
    torch.manual_seed(0)
    tokenizer = open_tokenizer(EMBEDDED, SHAPE.context)
    made = TextTransformer(SHAPE.config(tokenizer.end + 1), Projector(64, 48, 16), tokenizer, temperature=0.1)
    return made.eval()


def theirs(text: TextTransformer, sentences: list[str]) -> Tensor:
    """The pooled output of transformers' `CLIPTextModel`, which finds the end token itself, then the projector."""
    ids = pad(text.tokenizer(sentences))
    mask = torch.arange(ids.shape[1]) <= (ids == text.tokenizer.end).int().argmax(1)[:, None]
    pooled = text.text_model(input_ids=ids, attention_mask=mask.long()).pooler_output
    projected: Tensor = text.text_projection(pooled)
    return functional.normalize(projected, dim=1)


@torch.no_grad()
def test_a_sentence_is_read_at_its_end_token(text: TextTransformer) -> None:
    assert torch.allclose(text.vectors(SENTENCES), theirs(text, SENTENCES), atol=1e-5)
    for place, sentence in enumerate(SENTENCES):
        assert torch.allclose(text.vectors([sentence])[0], text.vectors(SENTENCES)[place], atol=1e-5)


@torch.no_grad()
def test_words_are_means_over_prompts(text: TextTransformer) -> None:
    prompts = Prompts(("a photo of a {}.", "{}"))
    found = text.embed_words(["cat", "grass"], prompts)
    for word, row in zip(("cat", "grass"), found, strict=True):
        both = theirs(text, [f"a photo of a {word}.", word])
        assert torch.allclose(row, functional.normalize(both.mean(0), dim=0), atol=1e-5)


def test_the_cache_knows_the_projector(text: TextTransformer, tmp_path: Path) -> None:
    """A cached word is not read for other weights."""
    cache, prompts = TextCache(tmp_path), Prompts(("{}",))
    before, digest = text.embed_words(["cat"], prompts, cache=cache), text.text_digest()
    last = text.text_projection[-1].bias
    kept = last.detach().clone()
    with torch.no_grad():
        last.add_(1.0)
    after = text.embed_words(["cat"], prompts, cache=cache)
    with torch.no_grad():
        last.copy_(kept)
    assert text.text_digest() == digest
    assert not torch.allclose(before, after, atol=1e-3)


def test_it_is_of_the_papers_size_and_has_its_vocabulary() -> None:
    config = TextShape().config(49_408)
    assert (config["hidden_size"], config["num_hidden_layers"], config["max_position_embeddings"]) == (256, 12, 77)
    assert (config["vocab_size"], config["num_attention_heads"], config["hidden_act"]) == (49_408, 4, "quick_gelu")


def test_the_scale_begins_at_one_over_the_temperature(text: TextTransformer) -> None:
    assert text.logit_scale == pytest.approx(10.0)
    assert text.embed_dim == 16


def test_a_tokenizer_opens_from_a_folder_and_a_wrong_place_is_told(tmp_path: Path) -> None:
    assert open_tokenizer(weights.find(EMBEDDED), 32).context == 32
    with pytest.raises(WeightsError, match="there is nothing at"):
        open_tokenizer(tmp_path / "nothing", 77)
    (tmp_path / "bpe.txt.gz").write_bytes(b"not gzipped")
    with pytest.raises(WeightsError, match="cannot read the merges"):
        open_tokenizer(tmp_path / "bpe.txt.gz", 77)


def test_a_mistake_is_a_sentence() -> None:
    with pytest.raises(SettingError, match="width must be a multiple of 64"):
        TextShape(width=100)
    for name in ("layers", "context"):
        with pytest.raises(SettingError, match=f"{name} must be"):
            TextShape(**{name: 0})
