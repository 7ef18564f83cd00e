"""A method that learns prompts on a frozen CLIP, as ZSSeg's first stage does; they are saved apart from the model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.weights import find
from lexiseg.layers import pixels
from lexiseg.losses.pseudo_labels import cross_entropy, upsample
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary

FILE = "learned.safetensors"


@dataclass(frozen=True)
class Config:
    """length: vectors before the word."""

    length: int = 4


def traits(config: Config) -> Traits:
    return Traits()


class LearnedPrompts(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    def __init__(self, clip: Any, context: Tensor, config: Config) -> None:
        super().__init__()
        self.clip, self.config = clip.requires_grad_(False), config
        self.context = nn.Parameter(context)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return int(self.clip.patch)

    @property
    def prompts(self) -> Prompts:
        return Prompts(("{}.",), self.context)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        """With the learned prompts, whatever others are given."""
        words = self.clip.embed_words(vocabulary.queries, self.prompts, cache=cache)
        return TextClassifier.of(vocabulary, words, self.clip.logit_scale)

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        vision = self.clip.vision
        tokens, grid = vision.tokens(pixels.normalise(images, "clip", pixels.dtype_of(vision)))
        return DenseEmbedding(vision.project(vision.values(tokens)).mT.reshape(len(images), -1, *grid))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        return DenseLogits(classifier.logits(embedding.features), classifier.background)


@dataclass(frozen=True)
class Training:
    """words: the classes that pixels are labelled with."""

    words: tuple[str, ...] = ()

    def build(self, segmenter: LearnedPrompts, *, teacher: object = None) -> Objective:
        return Objective(segmenter, Vocabulary(self.words))


class Objective(nn.Module):
    unsaved = ("segmenter.clip.*",)

    def __init__(self, segmenter: LearnedPrompts, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.segmenter, self.vocabulary = segmenter, vocabulary

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        model = self.segmenter
        words = model.clip.word_vectors(self.vocabulary.queries, model.prompts)  # with gradients
        classifier = TextClassifier.of(self.vocabulary, words, model.clip.logit_scale)
        logits = model.classify(model.embed_image(batch["images"]), classifier).logits
        return {"labels": cross_entropy(upsample(logits, batch["labels"].shape[-2:]), batch["labels"], ignore=255)}


def load(variant: Variant) -> LearnedPrompts:
    if variant.weights is not None:
        learned = Prompts.open(find(variant.weights) / FILE).context
        assert learned is not None
        return LearnedPrompts(Clip.load(variant.weights), learned, variant.config).eval()
    random = torch.Generator().manual_seed(0)
    context = 0.02 * torch.randn(variant.config.length, TINY_VIT.text_width, generator=random)
    return LearnedPrompts(Clip.random(TINY_VIT), context, variant.config).eval()


def save(segmenter: LearnedPrompts, folder: str | os.PathLike[str]) -> None:
    segmenter.clip.save(folder)
    segmenter.prompts.save(Path(folder) / FILE)


VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(Config(), None, Inference(short_side=64, prompts="single"), "for tests")
}
