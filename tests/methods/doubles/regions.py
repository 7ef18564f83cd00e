"""A method that groups pixels by linear masks and has a background of its own, as GroupViT and SegCLIP do."""

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
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Embedding, Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary

PATCH, WIDTH, CENTRES = 8, 16, 4


@dataclass(frozen=True)
class Config:
    """threshold: regions whose best class is below it are background, but for the best region of all; 0-1."""

    threshold: float = 0.3


@dataclass(frozen=True, eq=False)
class Regions(Embedding):
    """soft: how much each cell is of each region [B, N, h, w]; regions: what each is like [B, N, D]."""

    per_image: ClassVar[tuple[str, ...]] = ("soft", "regions")

    soft: Tensor
    regions: Tensor

    @property
    def proposals(self) -> Proposals:
        region, covers = regions_of(self)
        return Proposals.of_labels(region, covers)


def regions_of(embedding: Regions) -> tuple[Tensor, tuple[int, int]]:
    """The region of each pixel [B, H, W], and the pixels that this covers: with the padding."""
    height, width = (PATCH * side for side in embedding.soft.shape[-2:])
    soft = functional.interpolate(embedding.soft, (height, width), mode="bilinear")
    return soft.argmax(dim=1), (height, width)


def traits(config: Config) -> Traits:
    return Traits(whole_image=True, background="own", regions=True)


class Grouping(nn.Module, Segmenter[Regions, TextClassifier]):
    patch = PATCH

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        random = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(WIDTH, 3, PATCH, PATCH, generator=random) / 14, requires_grad=False)
        self.centres = nn.Parameter(torch.randn(CENTRES, WIDTH, generator=random), requires_grad=False)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: Any = None) -> TextClassifier:
        seeds = (torch.Generator().manual_seed(zlib.crc32(word.encode())) for word in vocabulary.queries)
        words = torch.stack([torch.randn(WIDTH, generator=seed) for seed in seeds])
        return TextClassifier.of(vocabulary, functional.normalize(words, dim=1), 5.0)

    def embed_image(self, images: Tensor) -> Regions:
        seen = pixels.normalise(images, "imagenet", pixels.dtype_of(self))
        seen = functional.pad(seen, [side for size in seen.shape[:1:-1] for side in (0, -size % PATCH)])
        cells = functional.conv2d(seen, self.kernel, stride=PATCH).float()  # [B, D, h, w]
        soft = torch.einsum("bdhw,nd->bnhw", cells, self.centres.float()).softmax(dim=1)
        return Regions(soft, torch.einsum("bnhw,bdhw->bnd", soft, cells) / soft.sum((2, 3))[..., None])

    def classify(self, embedding: Regions, classifier: TextClassifier) -> MaskScores:
        region, covers = regions_of(embedding)
        masks = functional.one_hot(region, CENTRES).permute(0, 3, 1, 2).float()
        likeness = functional.normalize(embedding.regions, dim=2) @ classifier.weight.float().T  # [B, N, Q]
        scores = classifier.pool(likeness * classifier.scale, dim=2).softmax(dim=2)
        return MaskScores(masks, self._with_background(scores, classifier), True, "linear", covers)

    def _with_background(self, scores: Tensor, classifier: TextClassifier) -> Tensor:
        best = scores[..., : classifier.channels - classifier.background].amax(dim=2, keepdim=True)  # [B, N, 1]
        least = best.amax(dim=1, keepdim=True).clamp(max=self.config.threshold)
        background = (best < least).to(scores)
        if not classifier.background:
            return torch.cat([scores, background], dim=2)
        return torch.cat([scores[..., :-1], scores[..., -1:].maximum(background)], dim=2)


def load(variant: Variant) -> Grouping:
    segmenter = Grouping(variant.config)
    if variant.weights is not None:
        segmenter.load_state_dict(load_file(Path(variant.weights.name) / "model.safetensors"))
    return segmenter.eval()


def save(segmenter: Grouping, folder: str | os.PathLike[str]) -> None:
    save_file(segmenter.state_dict(), Path(folder) / "model.safetensors")


VARIANTS: Mapping[str, Variant] = {"tiny": Variant(Config(), None, Inference(prompts="single"), "for tests")}
