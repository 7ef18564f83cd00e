"""A method with two text branches, weighed by whether a class was seen in training, as ZSSeg's ensemble is."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.prompts import Prompts
from lexiseg.layers import pixels
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary

PATCH, WIDTH = 8, 16


@dataclass(frozen=True)
class Config:
    """share: of the second branch in the logits of unseen classes, 0-1; seen ones get the rest of it."""

    share: float = 0.7


@dataclass(frozen=True, eq=False)
class Both(DenseEmbedding):
    grid_fields: ClassVar[tuple[str, ...]] = ("features", "others")

    others: Tensor


@dataclass(frozen=True, eq=False)
class Pair:
    """share: of the second branch, for each word [Q]."""

    first: TextClassifier
    second: TextClassifier
    share: Tensor


def traits(config: Config) -> Traits:
    return Traits(reads_seen=True)


class TwoBranches(nn.Module, Segmenter[Both, Pair]):
    patch = PATCH

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        random = torch.Generator().manual_seed(0)
        self.first, self.second = (
            nn.Parameter(torch.randn(WIDTH, 3, PATCH, PATCH, generator=random), requires_grad=False) for _ in range(2)
        )

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: Any = None) -> Pair:
        first, second = (
            TextClassifier.of(vocabulary, torch.stack([_vector(word, branch) for word in vocabulary.queries]), 20.0)
            for branch in ("first", "second")
        )
        seen = [*(vocabulary.seen or [True] * len(vocabulary)), False]
        share = [1 - self.config.share if seen[at] else self.config.share for at in vocabulary.class_of]
        return Pair(first, second, torch.tensor(share))

    def embed_image(self, images: Tensor) -> Both:
        height, width = images.shape[-2:]
        pad = (0, -width % PATCH, 0, -height % PATCH)
        seen = [functional.pad(pixels.normalise(images, of, pixels.dtype_of(self)), pad) for of in ("clip", "imagenet")]
        return Both(*(functional.conv2d(x, w, stride=PATCH) for x, w in zip(seen, self.parameters(), strict=True)))

    def classify(self, embedding: Both, classifier: Pair) -> DenseLogits:
        first = _cosines(embedding.features, classifier.first)
        second = _cosines(embedding.others, classifier.second)
        logits = torch.lerp(first, second, classifier.share[:, None, None])
        return DenseLogits(classifier.first.pool(logits), classifier.first.background)


def _vector(word: str, branch: str) -> Tensor:
    random = torch.Generator().manual_seed(zlib.crc32(f"{branch} {word}".encode()))
    return functional.normalize(torch.randn(WIDTH, generator=random), dim=0)


def _cosines(features: Tensor, words: TextClassifier) -> Tensor:
    return torch.einsum("bdhw,qd->bqhw", functional.normalize(features.float(), dim=1), words.weight * words.scale)


def load(variant: Variant) -> TwoBranches:
    segmenter = TwoBranches(variant.config)
    if variant.weights is not None:
        segmenter.load_state_dict(load_file(Path(variant.weights.name) / "model.safetensors"))
    return segmenter.eval()


def save(segmenter: TwoBranches, folder: str | os.PathLike[str]) -> None:
    save_file(segmenter.state_dict(), Path(folder) / "model.safetensors")


VARIANTS: Mapping[str, Variant] = {"tiny": Variant(Config(), None, Inference(prompts="single"), "for tests")}
