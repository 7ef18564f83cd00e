"""Names K-means parts of a picture with CLIP.

For each part, CLIP sees the picture with the rest blanked ("pseudo-mask + CLIP").

The first of two baselines of S-Seg (Lai, "Exploring Simple Open-Vocabulary Semantic Segmentation", arXiv 2401.12217,
section 4.1 and Table 2; docs/papers/s_seg.md §4.8). It asks whether good masks and a good CLIP are enough. In the paper
they are not: 12.9 mIoU on Pascal VOC with CLIP ViT-L/14, where S-Seg has 44.9.

Each part is applied to the whole picture, which is then classified as any picture is: the part is neither cropped nor
enlarged, so a small one is a few pixels of what CLIP sees. ZSSeg's crops are the remedy (`methods/zsseg.py`, which
takes the same masks with proposer=kmeans).

The authors released no code. What fills the rest of the picture and how it is brought to CLIP's size are not said, and
are settings here. Nothing is trained.

Letters: B images, N masks, C classes, D embedding, H W pixels.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.errors import WeightsError
from lexiseg.layers import pixels
from lexiseg.losses.pseudo_labels import upsample
from lexiseg.proposals import kmeans
from lexiseg.proposals._mask_embedding import MaskEmbedding
from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["VARIANTS", "Config", "PseudoMaskClip", "load", "save", "traits"]

AT_ONCE = 64  # masked pictures that pass CLIP's tower together
_DINO = kmeans.Config(features="facebook/dino-vits8")


@dataclass(frozen=True)
class Config:
    """pseudo_masks: what makes the parts; DINO ViT-S/8 and eight of them in the paper.
    fill: what the rest of the picture becomes, black ("zero") or CLIP's "mean" colour.
    square: the masked picture is "stretch"ed to CLIP's square, or the "centre" of it is taken, as CLIP's own pictures.
    tokenizer: a folder, or OpenAI's merges file, for weights that bring none (OpenAI's files).
    allow_pickle: read weights that only come as a pickle, from a source you trust.
    """

    pseudo_masks: kmeans.Config = _DINO
    fill: Literal["zero", "mean"] = "zero"
    square: Literal["stretch", "centre"] = "stretch"
    tokenizer: str | None = None
    allow_pickle: bool = False


def traits(config: Config) -> Traits:
    return Traits(regions=True, accepts_masks=True)


class PseudoMaskClip(nn.Module, Segmenter[MaskEmbedding, TextClassifier]):
    """A frozen CLIP, and a frozen proposer."""

    def __init__(self, clip: Clip, generator: kmeans.KMeans, config: Config) -> None:
        super().__init__()
        self.clip: Any = clip
        self.generator, self.config = generator, config

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return int(self.clip.patch)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, self.clip.logit_scale)

    @torch.no_grad()
    def embed_image(self, images: Tensor, proposals: Proposals | None = None) -> MaskEmbedding:
        """proposals: masks to name in place of the method's own."""
        found = self.generator.propose(images) if proposals is None else proposals
        features = torch.zeros(
            *found.valid.shape, self.clip.embed_dim, dtype=pixels.dtype_of(self.clip.vision), device=images.device
        )
        waiting = self._masked(images, found)
        while batch := list(itertools.islice(waiting, AT_ONCE)):
            places, pictures = zip(*batch, strict=True)
            image, mask = torch.tensor(places, device=images.device).unbind(1)
            features[image, mask] = self.clip.image_features(torch.stack(pictures)).to(features.dtype)
        return MaskEmbedding(found.masks, found.valid, features, found.covers)

    def classify(self, embedding: MaskEmbedding, classifier: TextClassifier) -> MaskScores:
        return embedding.named(classifier)

    def _masked(self, images: Tensor, proposals: Proposals) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """(image, mask) of each mask, and the picture of it as CLIP takes it."""
        size, statistics = (images.shape[-2], images.shape[-1]), (self.clip.mean, self.clip.std)
        dtype = pixels.dtype_of(self.clip.vision)
        colour = self.clip.mean if self.config.fill == "mean" else (0.0, 0.0, 0.0)
        blank = torch.tensor([round(255 * level) for level in colour], dtype=torch.uint8, device=images.device)
        for image, picture in enumerate(images):
            for mask in torch.nonzero(proposals.valid[image])[:, 0].tolist():
                full = upsample(proposals.masks[image, mask][None, None], size, covers=proposals.covers)[0, 0] > 0
                masked = torch.where(full, picture, blank[:, None, None])
                yield (image, mask), pixels.normalise(self._sized(masked), statistics, dtype)

    def _sized(self, picture: Tensor) -> Tensor:
        """[3, H, W] -> the square that CLIP was trained on, by a bicubic filter."""
        side = int(self.clip.image_size)
        height, width = picture.shape[-2:]
        size = (side, side)
        if self.config.square == "centre":
            scale = side / min(height, width)
            size = (max(side, round(height * scale)), max(side, round(width * scale)))
        resized = functional.interpolate(picture[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        return resized[:, top : top + side, left : left + side]


def load(variant: Variant) -> PseudoMaskClip:
    """Raises `WeightsError` for weights that are missing or do not fit, of CLIP or of the features."""
    config: Config = variant.config
    if variant.weights is None:
        if config.pseudo_masks.features != _TINY.features:
            raise WeightsError("this variant of pseudo_mask_clip has no weights of its own; name some with weights=")
        clip = Clip.random(TINY_VIT)
    else:
        clip = Clip.load(variant.weights, tokenizer=config.tokenizer, allow_pickle=config.allow_pickle)
    # how these weights were read says nothing about the folder that they may be saved in
    config = replace(config, tokenizer=None, allow_pickle=False)
    return PseudoMaskClip(clip, kmeans.load(config.pseudo_masks), config).eval().requires_grad_(False)


def save(segmenter: PseudoMaskClip, folder: str | os.PathLike[str]) -> None:
    """The CLIP; the network of the features keeps the place that the config names."""
    segmenter.clip.save(folder)


_USUAL = Inference(short_side=448, long_side=2048, blend="logits", prompts="imagenet80")
_TINY = kmeans.Config(features="colours", k=4, side=16)


def _openai(name: str, about: str, shape: ClipShape) -> Variant:
    return Variant(Config(), Weights("hub", f"openai/clip-vit-{name}", shape=shape), _USUAL, about)


VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(
        Config(pseudo_masks=_TINY),
        None,
        Inference(short_side=64, blend="logits", prompts="single"),
        "random weights and clusters of colours, for tests",
    ),
    "vit-b16": _openai(
        "base-patch16", "OpenAI's CLIP ViT-B/16 and DINO's clusters, 690 MB", ClipShape(512, 224, 768, 12, 16, 512, 12)
    ),
    "vit-l14": _openai(
        "large-patch14",
        "OpenAI's CLIP ViT-L/14 and DINO's clusters, 1.8 GB: the paper's",
        ClipShape(768, 224, 1024, 24, 14, 768, 12),
    ),
    "custom": Variant(Config(), None, _USUAL, "any CLIP: weights= is a hub id, a folder or one of OpenAI's files"),
}
