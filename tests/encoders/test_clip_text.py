"""The text side alone embeds words as the whole CLIP does."""

from __future__ import annotations

import torch

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT
from lexiseg.encoders.clip_text import ClipText
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.weights import fit

WORDS, PROMPTS = ("cat", "a red bus"), Prompts(("a photo of a {}.", "{}"))


def test_words_get_the_vectors_of_the_whole_clip() -> None:
    for shape in (TINY_VIT, TINY_RESNET):
        clip = Clip.random(shape)
        text = ClipText.of(clip)
        assert torch.equal(text.embed_words(WORDS, PROMPTS), clip.embed_words(WORDS, PROMPTS))
        assert (text.embed_dim, text.logit_scale) == (clip.embed_dim, clip.logit_scale)
        assert text.text_digest() == clip.text_digest()


def test_it_holds_no_image_tower_and_can_be_filled_from_its_own_tensors() -> None:
    clip = Clip.random(TINY_VIT)
    tensors = ClipText.of(clip).state_dict()
    assert not any("vision" in name for name in tensors)
    again = ClipText.empty(clip.config, clip.tokenizer)
    fit(again, tensors, source="here")
    assert torch.equal(again.embed_words(WORDS, PROMPTS), clip.embed_words(WORDS, PROMPTS))
