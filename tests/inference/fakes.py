"""Segmenters small enough to be understood at a glance: what they see is the colour of each patch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import (
    DenseEmbedding,
    DenseLogits,
    Embedding,
    Inference,
    MaskScores,
    Segmenter,
    TextClassifier,
    Traits,
)
from lexiseg.vocabulary import Vocabulary

COLOURS = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "white": (1, 1, 1),
    "black": (0, 0, 0),
}
PATCH = 4
WORDS = ["red", "green", "blue", "yellow"]
PLAIN = Inference(multiple=PATCH, prompts="single")


@dataclass(frozen=True)
class Config:
    scale: float = 30.0


@dataclass(frozen=True, eq=False)
class Whole(Embedding):
    """An embedding that cannot be cut into rows."""

    per_image: ClassVar[tuple[str, ...]] = ("features",)

    features: Tensor


class Colours(nn.Module, Segmenter[Any, Any]):
    """Class logits fall with the distance between a patch's mean colour and the class's."""

    patch = PATCH
    traits = Traits()
    embedding: ClassVar[Any] = DenseEmbedding

    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config = config
        self.gain = nn.Parameter(torch.ones(3, 1, 1))
        self.scalar = nn.Parameter(torch.tensor(4.6052))
        self.batches: list[tuple[int, ...]] = []
        self.texts: list[Vocabulary] = []
        self.bands: list[int] = []

    def embed_text(self, vocabulary, prompts, *, cache=None):
        self.texts.append(vocabulary)
        weight = torch.tensor([COLOURS[word] for word in vocabulary.queries], dtype=torch.float32)
        return TextClassifier.of(vocabulary, weight, self.config.scale)

    def embed_image(self, images):
        assert not torch.is_grad_enabled()
        assert not self.training
        self.batches.append(tuple(images.shape))
        images = images.to(self.gain.dtype) / 255 * self.gain
        pad = (0, -images.shape[-1] % PATCH, 0, -images.shape[-2] % PATCH)
        return self.embedding(F.avg_pool2d(F.pad(images, pad, mode="replicate"), PATCH))

    def classify(self, embedding, classifier):
        features = embedding.features.float()
        self.bands.append(features.shape[-2])
        difference = features[:, None] - classifier.weight[None, :, :, None, None]  # [B, Q, 3, h, w]
        return DenseLogits(classifier.pool(-classifier.scale * difference.square().sum(2)), classifier.background)


class Uncut(Colours):
    embedding = Whole


class Masks(Colours):
    """The same as masks: one for each class, each surely of its class."""

    def classify(self, embedding, classifier):
        logits = super().classify(embedding, classifier).logits
        return MaskScores(logits + 3, torch.eye(logits.shape[1])[None], classifier.background)


class OwnBackground(Colours):
    """Decides itself that what is dark is background."""

    traits = Traits(background="own")

    def classify(self, embedding, classifier):
        logits = super().classify(embedding, classifier).logits
        dark = 100.0 * (embedding.features.float().amax(1, keepdim=True) < 0.2) - 95
        return DenseLogits(torch.cat([logits, dark], dim=1), background=True)


def flag(height: int = 48, width: int = 64) -> np.ndarray:
    """Red, green and blue from left to right, the lower half of the green yellow."""
    rgb = np.zeros((height, width, 3), np.uint8)
    third = width // 3
    rgb[:, :third, 0] = 255
    rgb[:, third : 2 * third, 1] = 255
    rgb[height // 2 :, third : 2 * third, 0] = 255
    rgb[:, 2 * third :, 2] = 255
    return rgb


def predictor(segmenter=None, dtype="fp32", **changes) -> Predictor:
    inference = replace(PLAIN, **changes)
    return Predictor(segmenter or Colours(), inference, name="colours", device="cpu", dtype=dtype)


def truth(height: int = 48, width: int = 64) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    third = width // 3
    labels[:, third : 2 * third] = 1
    labels[height // 2 :, third : 2 * third] = 3
    labels[:, 2 * third :] = 2
    return labels


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())
