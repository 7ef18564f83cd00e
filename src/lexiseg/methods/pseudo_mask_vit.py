"""Averages a CLIP's patches by the parts of a pseudo-mask.

The parts are then averaged to a picture ("pseudo-mask ViT").

The second of two baselines of S-Seg (Lai, "Exploring Simple Open-Vocabulary Semantic Segmentation", arXiv 2401.12217,
section 4.1 and Table 2; docs/papers/s_seg.md §4.8). It asks whether it is enough that training knows the parts of a
picture. In the paper it is not: 23.2 mIoU on Pascal VOC where S-Seg, from the same 12 M pairs, has 44.9.

The patches of a ViT are pooled within each part of what K-means makes of a frozen network's features; the parts are
pooled to one vector, which is trained beside the caption's as in CLIP, from scratch. To segment, each part is compared
with the words and gives its pixels to the nearest.

The authors released no code, and say neither which ViT, nor how patches and parts are pooled, nor where the vectors are
projected. Those are settings here, or said in `embed_image`.

Letters: B images, K parts, L patch tokens, C classes, D embedding, W width, h w grid, P patch, H W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import EMBEDDED, OPENAI_TOKENIZER, Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.text_transformer import open_tokenizer
from lexiseg.encoders.tokenizer import pad
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.losses.contrastive import info_nce
from lexiseg.proposals import kmeans
from lexiseg.proposals._mask_embedding import MaskEmbedding
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant, at_least_float32
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["VARIANTS", "Config", "Objective", "PseudoMaskVit", "Training", "load", "pool_parts", "save", "traits"]

LARGEST_SCALE = 100.0  # CLIP's
_DINO = kmeans.Config(features="facebook/dino-vits8")
Architecture = Literal["vit-b16", "vit-s16", "small", "tiny"]


@dataclass(frozen=True)
class Config:
    """architecture: of a model without weights. The text tower of the first two is S-Seg's.
    pseudo_masks: what makes the parts, in training and after it; DINO ViT-S/8 and eight of them in the paper.
    pooling: the picture's vector is the "mean" of its parts, or has the largest of each channel ("max").
    tokenizer: a hub id, folder or merges file, for a model without weights; None is the architecture's usual one.
    """

    architecture: Architecture = "vit-b16"
    pseudo_masks: kmeans.Config = _DINO
    pooling: Literal["mean", "max"] = "mean"
    tokenizer: str | None = None


def traits(config: Config) -> Traits:
    return Traits(regions=True, accepts_masks=True)


class PseudoMaskVit(nn.Module, Segmenter[MaskEmbedding, TextClassifier]):
    """A CLIP with a ViT, and a frozen proposer."""

    def __init__(self, clip: Clip, generator: kmeans.KMeans, config: Config) -> None:
        super().__init__()
        self.clip: Any = clip
        self.generator, self.config = generator.requires_grad_(False), config

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return int(self.clip.patch)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, min(self.clip.logit_scale, LARGEST_SCALE))

    def embed_image(self, images: Tensor, proposals: Proposals | None = None) -> MaskEmbedding:
        """Patches after the last block, the class token left out, are averaged over each part, and then projected.

        proposals: parts to name in place of the method's own; a pixel is weighed by each mask that it is in.
        """
        found = self.generator.propose(images) if proposals is None else proposals
        parts, valid = self.parts(images, found)
        return MaskEmbedding(found.masks, valid, self.clip.vision.project(parts), found.covers)

    def classify(self, embedding: MaskEmbedding, classifier: TextClassifier) -> MaskScores:
        return embedding.named(classifier)

    def parts(self, images: Tensor, proposals: Proposals) -> tuple[Tensor, Tensor]:
        """The mean patch of each part [B, K, W], and which parts there are [B, K]."""
        vision: ClipVit = self.clip.vision
        statistics = (self.clip.mean, self.clip.std)
        tokens, grid = vision.tokens(pixels.normalise(images, statistics, pixels.dtype_of(vision)))
        cells: Tensor = vision.last_block(tokens, None)[:, 1:]  # [B, L, W]
        shares = _shares(proposals, (images.shape[-2], images.shape[-1]), grid, vision.patch)
        return pool_parts(cells, shares), proposals.valid & (shares.sum(-1) > 0)

    def image_vectors(self, images: Tensor) -> Tensor:
        """The parts of each picture together, as unit vectors [B, D]."""
        parts, valid = self.parts(images, self.generator.propose(images))
        if self.config.pooling == "max":
            whole = parts.masked_fill(~valid[..., None], float("-inf")).amax(dim=1)
        else:
            whole = pool_parts(parts, valid[:, None].to(parts))[:, 0]
        return functional.normalize(at_least_float32(self.clip.vision.project(whole)), dim=1)

    def text_vectors(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors [B, D]."""
        features = self.clip.text_features(pad(self.clip.tokenizer(sentences)).to(self.clip.log_scale.device))
        return functional.normalize(at_least_float32(features), dim=1)


def pool_parts(cells: Tensor, shares: Tensor) -> Tensor:
    """The weighted mean of cells [B, L, W] for each row of weights [B, K, L]: [B, K, W], 0 where there is no weight."""
    weights = shares / shares.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).eps)
    return weights.to(cells) @ cells


def _shares(proposals: Proposals, size: tuple[int, int], grid: tuple[int, int], patch: int) -> Tensor:
    """How much of each patch belongs to each part, 0-1: [B, K, L]. Patches may reach beyond the picture."""
    height, width = proposals.covers or size
    inside = (proposals.masks > 0) & proposals.valid[..., None, None]
    full = functional.interpolate(inside.float(), (height, width), mode="nearest-exact")[..., : size[0], : size[1]]
    missing = [cells * patch - side for cells, side in zip(grid, full.shape[-2:], strict=True)]
    padded = functional.pad(full, (0, missing[1], 0, missing[0]))
    return functional.avg_pool2d(padded, patch).flatten(2)


@dataclass(frozen=True)
class Training:
    """CLIP's: pictures and captions, and nothing to set."""

    def build(self, segmenter: PseudoMaskVit, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher."""
        if teacher is not None:
            raise SettingError("pseudo_mask_vit learns from captions alone; leave the teacher out")
        return Objective(segmenter)


class Objective(nn.Module):
    """Pictures against their captions."""

    unsaved = ("segmenter.generator.*",)

    def __init__(self, segmenter: PseudoMaskVit) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.loss(*self.embed(batch))

    def embed(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        return self.segmenter.image_vectors(batch["images"]), self.segmenter.text_vectors(list(batch["texts"]))

    def loss(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        return {"contrast": info_nce(images, texts, self.segmenter.clip.log_scale.exp().clamp(max=LARGEST_SCALE))}

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        self.segmenter.generator.eval()
        return self


def load(variant: Variant) -> PseudoMaskVit:
    """Raises `WeightsError` for weights that are missing or do not fit, of the CLIP or of the features."""
    config: Config = variant.config
    clip = _fresh(config) if variant.weights is None else Clip.load(variant.weights)
    if not isinstance(clip.vision, ClipVit):
        raise WeightsError(f"{variant.weights} has no patches to pool; give a CLIP with a ViT")
    config = replace(config, tokenizer=None)  # it is saved with the weights
    return PseudoMaskVit(clip, kmeans.load(config.pseudo_masks), config).eval()


def save(segmenter: PseudoMaskVit, folder: str | os.PathLike[str]) -> None:
    """The CLIP, as transformers reads it; the network of the features keeps the place that the config names."""
    segmenter.clip.save(folder)


SHAPES: Mapping[str, ClipShape] = {
    "vit-b16": ClipShape(256, 224, 768, 12, 16, 256, 12),
    "vit-s16": ClipShape(256, 224, 384, 12, 16, 256, 12),
    "small": ClipShape(128, 128, 192, 6, 16, 128, 4, context=32),
    "tiny": TINY_VIT,
}


def _fresh(config: Config) -> Clip:
    """Drawn by torch's global generator, but for tests, which want the same weights every time."""
    shape = SHAPES[config.architecture]
    if config.architecture == "tiny":
        return Clip.random(shape)
    usual = EMBEDDED if config.architecture == "small" else OPENAI_TOKENIZER
    tokenizer = open_tokenizer(config.tokenizer or usual, shape.context)
    return Clip(replace(shape, vocabulary=tokenizer.end + 1).config(), tokenizer).eval()


_LARGE = Inference(short_side=448, long_side=2048, window=448, stride=224, blend="logits", prompts="single")


def _to_be_trained(architecture: Architecture, about: str) -> Variant:
    weights = Weights("none", f"a pseudo-mask ViT, {about}", "train it (lexiseg list recipes)")
    return Variant(Config(architecture), weights, _LARGE, f"{about}, and DINO's clusters; to be trained")


VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(
        Config("tiny", kmeans.Config(features="colours", k=4, side=16)),
        None,
        Inference(short_side=64, blend="logits", prompts="single"),
        "random weights and clusters of colours, for tests",
    ),
    "small": Variant(
        Config("small", kmeans.Config("lite2", side=160)),
        Weights("none", "a small pseudo-mask ViT", "train it (lexiseg train pseudo_mask_vit --mini)"),
        Inference(long_side=256, multiple=16, blend="logits", prompts="vild14"),
        "a small ViT and clusters of EfficientNet-Lite2's features; to be trained",
    ),
    "vit-b16": _to_be_trained("vit-b16", "ViT-B/16"),
    "vit-s16": _to_be_trained("vit-s16", "ViT-S/16"),
    "custom": Variant(Config(), None, _LARGE, "any CLIP with a ViT, and any features; to be trained"),
}
