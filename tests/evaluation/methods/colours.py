"""A method for tests: it knows words for colours (any other word is white), and a pixel is what its colour says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.prompts import Prompts
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary

RGB = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}


@dataclass(frozen=True)
class Config:
    """swap: exchange red and green in the picture. delay: seconds that each picture takes."""

    scale: float = 10.0
    swap: bool = False
    delay: float = 0.0


def traits(config: Config) -> Traits:
    return Traits(classify_settings=("scale",))


class Colours(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    patch = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.colours = nn.Parameter(torch.eye(3))
        self.embedded = 0

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: Any = None) -> TextClassifier:
        vectors = torch.tensor([RGB.get(word, RGB["white"]) for word in vocabulary.queries], dtype=torch.float32)
        weight = functional.normalize(vectors, dim=1)
        return TextClassifier.of(vocabulary, weight, self.config.scale * len(prompts.sentences))

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        self.embedded += len(images)
        time.sleep(self.config.delay)
        order = [1, 0, 2] if self.config.swap else [0, 1, 2]
        return DenseEmbedding(functional.normalize(images.float()[:, order] / 255, dim=1))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        logits = torch.einsum("bdhw,qd->bqhw", embedding.features, classifier.weight.float()) * classifier.scale
        return DenseLogits(classifier.pool(logits), classifier.background)


def load(variant: Variant) -> Colours:
    return Colours(variant.config)


def save(segmenter: Colours, folder: str | os.PathLike[str]) -> None:
    raise AssertionError("nobody saves colours")


_AS_THEY_ARE = Inference(prompts="single")

VARIANTS: Mapping[str, Variant] = {
    "plain": Variant(Config(), None, _AS_THEY_ARE, "for tests"),
    "swapped": Variant(Config(swap=True), None, _AS_THEY_ARE, "for tests"),
}
