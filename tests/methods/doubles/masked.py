"""A method that classifies masks, its own (the quarters of the picture) or those that it is given, as ZSSeg does."""

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
from lexiseg.proposals._proposals import CERTAIN, Proposals
from lexiseg.segmenter import Embedding, Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary

PATCH, WIDTH = 8, 16


@dataclass(frozen=True)
class Config:
    """scale: of the cosines."""

    scale: float = 5.0


@dataclass(frozen=True, eq=False)
class Masked(Embedding):
    """masks, valid: as in `Proposals`; features: the mean of the cells in each mask [B, N, D]."""

    per_image: ClassVar[tuple[str, ...]] = ("masks", "valid", "features")

    masks: Tensor
    valid: Tensor
    features: Tensor

    @property
    def proposals(self) -> Proposals:
        return Proposals(self.masks, self.valid)


def traits(config: Config) -> Traits:
    return Traits(whole_image=True, regions=True, accepts_masks=True, classify_settings=("scale",))


class MaskedMeans(nn.Module, Segmenter[Masked, TextClassifier]):
    patch = PATCH

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        random = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(WIDTH, 3, PATCH, PATCH, generator=random) / 14, requires_grad=False)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: Any = None) -> TextClassifier:
        seeds = (torch.Generator().manual_seed(zlib.crc32(word.encode())) for word in vocabulary.queries)
        words = torch.stack([torch.randn(WIDTH, generator=seed) for seed in seeds])
        return TextClassifier.of(vocabulary, functional.normalize(words, dim=1), self.config.scale)

    def embed_image(self, images: Tensor, proposals: Proposals | None = None) -> Masked:
        size = (images.shape[2], images.shape[3])
        proposals = quarters(images) if proposals is None else proposals
        seen = pixels.normalise(images, "imagenet", pixels.dtype_of(self))
        cells = functional.conv2d(padded(seen), self.kernel, stride=PATCH).float()  # [B, D, h, w]
        inside = functional.avg_pool2d(padded(proposals.at(size)), PATCH)  # [B, N, h, w]
        weight = inside.sum((2, 3))[..., None].clamp(min=1e-6)
        features = torch.einsum("bnhw,bdhw->bnd", inside, cells) / weight
        whole = proposals.at(size).clamp(1e-5, 1 - 1e-5).logit() if proposals.covers else proposals.masks
        return Masked(whole, proposals.valid, features)

    def classify(self, embedding: Masked, classifier: TextClassifier) -> MaskScores:
        valid = embedding.valid[..., None]
        likeness = functional.normalize(embedding.features, dim=2) @ classifier.weight.to(embedding.features).T
        scores = classifier.pool(likeness * self.config.scale, dim=2).softmax(dim=2)
        masks = embedding.masks.masked_fill(~valid[..., None], -CERTAIN)
        return MaskScores(masks, scores * valid, classifier.background)


def padded(values: Tensor) -> Tensor:
    """[B, C, H, W] to multiples of PATCH, with zeros to the right and below."""
    return functional.pad(values, [side for size in values.shape[:1:-1] for side in (0, -size % PATCH)])


def quarters(images: Tensor) -> Proposals:
    batch, _, height, width = images.shape
    lower = torch.arange(height, device=images.device)[:, None] >= (height + 1) // 2
    right = torch.arange(width, device=images.device) >= (width + 1) // 2
    return Proposals.of_labels((2 * lower + right).expand(batch, height, width))


def load(variant: Variant) -> MaskedMeans:
    segmenter = MaskedMeans(variant.config)
    if variant.weights is not None:
        segmenter.load_state_dict(load_file(Path(variant.weights.name) / "model.safetensors"))
    return segmenter.eval()


def save(segmenter: MaskedMeans, folder: str | os.PathLike[str]) -> None:
    save_file(segmenter.state_dict(), Path(folder) / "model.safetensors")


VARIANTS: Mapping[str, Variant] = {"tiny": Variant(Config(), None, Inference(prompts="single"), "for tests")}
