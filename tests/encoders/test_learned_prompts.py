"""Learned prompts are tokens without a name: with the vectors of real words they do what these words do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import catalog
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT, ClipShape
from lexiseg.encoders.clip_text import ClipText
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.token_towers import ClipTokens
from lexiseg.encoders.vit_bert import TINY, VitBert
from lexiseg.errors import SettingError
from lexiseg.vocabulary import Vocabulary

WORDS = ["cat", "traffic light", "red double decker bus"]


@pytest.fixture(scope="module", params=[TINY_VIT, TINY_RESNET], ids=["vit", "resnet"])
def clip(request: pytest.FixtureRequest) -> Clip:
    return Clip.random(request.param)


def real(clip: Clip, text: str) -> Tensor:
    """The token embeddings of a text, without its marks."""
    (row,) = clip.tokenizer([text])
    table: Tensor = clip.text_model.embeddings.token_embedding.weight
    return table[row[1:-1]].detach().clone()


@pytest.mark.parametrize(
    ("before", "sentence", "after", "ordinary"),
    [
        ("a photo of a", "{}", "", "a photo of a {}"),
        ("a photo of a", "{}.", "", "a photo of a {}."),  # as ZSSeg ends its sequence
        ("", "{}", "in the scene", "{} in the scene"),
        ("there is a", "red {}", "in the scene.", "there is a red {} in the scene."),
    ],
)
def test_a_context_of_real_words_equals_ordinary_encoding(
    clip: Clip, before: str, sentence: str, after: str, ordinary: str
) -> None:
    parts = [real(clip, before)] if before else []
    context = torch.cat([*parts, real(clip, after)] if after else parts)
    learned = Prompts((sentence,), context, word_at=len(context) - (len(real(clip, after)) if after else 0))
    expected = clip.embed_words(WORDS, Prompts((ordinary,)))
    torch.testing.assert_close(clip.embed_words(WORDS, learned), expected, atol=1e-6, rtol=0)
    assert (clip.embed_words(WORDS, Prompts(("{}",))) - expected).abs().max() > 1e-3


def test_a_context_stands_before_the_word_unless_told_otherwise(clip: Clip) -> None:
    context = real(clip, "a photo of a")
    plain = clip.embed_words(WORDS, Prompts(context=context))
    assert torch.equal(plain, clip.embed_words(WORDS, Prompts(("{}",), context, word_at=len(context))))
    torch.testing.assert_close(plain, clip.embed_words(WORDS, Prompts(("a photo of a {}",))), atol=1e-6, rtol=0)
    assert (plain - clip.embed_words(WORDS, Prompts(context=context, word_at=0))).abs().max() > 1e-3


@torch.no_grad()
def test_the_sequence_is_what_transformers_makes_of_the_same_vectors() -> None:
    """Position by position through transformers' own text model, whose token table is lengthened by the context."""
    clip, context = Clip.random(TINY_VIT), torch.randn(5, 64)
    found = clip.embed_words(["cat"], Prompts(("{}.",), context))
    (row,) = clip.tokenizer(["cat."])
    table = clip.text_model.embeddings.token_embedding
    clip.text_model.embeddings.token_embedding = nn.Embedding.from_pretrained(torch.cat([table.weight, context]))
    ids = torch.tensor([[row[0], *range(len(table.weight), len(table.weight) + 5), *row[1:]]])
    states = clip.text_model(input_ids=ids, position_ids=torch.arange(ids.shape[1])[None]).last_hidden_state
    expected = functional.normalize(clip.text_projection(states[:, -1]), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_context_is_used_by_all_that_embeds_words(clip: Clip, tmp_path: Path) -> None:
    learned = Prompts(context=torch.randn(3, 64))
    expected = clip.embed_words(WORDS, learned)
    assert torch.equal(ClipText.of(clip).embed_words(WORDS, learned), expected)
    assert clip.half().embed_words(WORDS, learned).dtype == torch.float32
    clip.float()


def test_words_are_kept_by_context_and_by_place(tmp_path: Path) -> None:
    clip, cache = Clip.random(TINY_VIT), TextCache(tmp_path)
    context = torch.randn(3, 64)
    for prompts in (
        Prompts(("{}",)),
        Prompts(context=context),
        Prompts(context=context, word_at=0),
        Prompts(context=context.flip(0)),
        Prompts(("{}.",), context),
    ):
        assert torch.equal(clip.embed_words(WORDS, prompts, cache=cache), clip.embed_words(WORDS, prompts))
        assert torch.equal(clip.embed_words(WORDS, prompts, cache=cache), clip.embed_words(WORDS, prompts))
    assert len(list(cache.folder.iterdir())) == 5


def test_gradients_reach_the_context_and_nothing_else() -> None:
    clip = Clip.random(TINY_VIT).requires_grad_(False)
    context = nn.Parameter(0.02 * torch.randn(4, 64))
    vectors = clip.word_vectors(WORDS, Prompts(context=context))
    (vectors @ torch.randn(32)).sum().backward()
    assert context.grad is not None
    assert (context.grad.abs().sum(dim=1) > 0).all()


def test_a_word_that_does_not_fit_behind_the_context_is_cut_and_keeps_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clip = Clip.random(TINY_VIT)  # 32 tokens
    prompts = Prompts(context=torch.randn(28, 64))
    (row,) = clip.rows(["a very long name of many words"], prompts)
    assert len(row) == 32
    assert row[-1] == clip.tokenizer.end
    assert "were cut" in caplog.text
    assert clip.embed_words(["a very long name of many words"], prompts).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "context", "says"),
    [
        (TINY_VIT, (4, 48), "vectors of 48 numbers and this text tower takes 64"),
        (TINY_VIT, (30, 64), "30 learned vectors leave no room for a word among the 32 tokens"),
    ],
)
def test_a_context_that_does_not_fit_the_tower_is_refused(shape: ClipShape, context: Sequence[int], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Clip.random(shape).embed_words(WORDS, Prompts(context=torch.randn(*context)))


# --- towers seen by their tokens


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_towers_seen_by_their_tokens_take_a_context_too(padded: bool) -> None:
    towers = ClipTokens(Clip.random(TINY_VIT))
    learned = Prompts(context=real(towers.clip, "a photo of a"))
    theirs = towers.text_tokens([f"a photo of a {word}" for word in WORDS], length=20, padded=padded)
    ours = towers.text_tokens(WORDS, length=20, padded=padded, prompts=learned)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_tower_that_is_no_clip_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="reads words with BERT; give sentences"):
        VitBert.random(TINY).text_tokens(["a"], length=5, prompts=Prompts(context=torch.randn(2, 64)))


@pytest.mark.parametrize("model", ["maskclip/tiny", "maskclip/tiny-rn", "mini_clip/tiny", "simseg/tiny-clip"])
def test_every_method_on_a_clip_reads_learned_prompts_from_a_file(model: str, tmp_path: Path) -> None:
    Prompts(context=torch.randn(16, 64)).save(tmp_path / "learned.safetensors")
    segmenter, inference = catalog.load(model, prompts=tmp_path / "learned.safetensors")
    words = Vocabulary("cat, sky")
    learned = segmenter.embed_text(words, Prompts.open(inference.prompts)).weight
    assert learned.isfinite().all()
    assert not torch.allclose(learned, segmenter.embed_text(words, Prompts.open("single")).weight, atol=1e-3)
