"""Trains a small CLIP with a ViT on its dense path.

Contrastive training of both towers from scratch fails where there are few photographs: the text vectors start almost
alike. So the places of the words are decided first, by a sentence encoder (see `data.meanings`), and stay. The image
tower learns to hit them at every patch, on the path that MaskCLIP reads; the text tower learns to hit them from the
words. A concept that is related to the right one (a synonym, coarser, finer) is never a mistake.

What is saved is a plain CLIP folder, which `maskclip` loads as well, and transformers' `CLIPModel` too if the image
tower is a ViT; the embedded one was halved before (`segmenter.half()`). A CLIP-ResNet is trained in the same way: on
what its attention pool makes of single cells, stretched to the labels, which are finer.

Letters: B images, C concepts, D embedding, L patches, K of them kept, W width of the tower, h w grid.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT, ClipShape
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import Tokenizer, pad
from lexiseg.encoders.weights import find, fit
from lexiseg.errors import SettingError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.networks.heads import upsample
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["VARIANTS", "Config", "MiniClip", "Objective", "Training", "load", "save", "traits"]

BASE = ClipShape(256, 128, 256, 6, 8, 192, 3, context=32, vocabulary=4093, activation="gelu")
BASE_RESNET = ClipShape(256, 128, 24, (2, 2, 2, 2), None, 192, 3, context=32, vocabulary=4093, activation="gelu")
LARGEST_SCALE = 100.0  # as in CLIP
FORGETTING, RAREST = 0.01, 1e-4  # of the running frequencies: what a batch counts for, and the least of any concept


@dataclass(frozen=True)
class Config:
    """architecture: the shape of random weights, where no weights are named; "-rn" has a CLIP-ResNet.
    text_tower: a CLIP whose text tower is taken, where no weights are named; None is a random one. Both towers learn
        the same places, so one that knows the words need not learn them again.
    statistics: what pictures are normalised with, "clip", "imagenet", or mean and standard deviation of RGB in 0-1.
    """

    architecture: Literal["base", "base-rn", "tiny", "tiny-rn"] = "base"
    text_tower: str | None = None
    statistics: Statistics = "clip"

    def __post_init__(self) -> None:
        pixels.check(self.statistics)


def traits(config: Config) -> Traits:
    """Each cell is compared with the words by itself."""
    return Traits()


class MiniClip(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """Cells of a CLIP's image tower, each without the others in the last layer, compared with the words."""

    def __init__(self, clip: Clip, config: Config) -> None:
        super().__init__()
        self.clip, self.config = clip, config

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.clip.patch

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, self.clip.logit_scale)

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        """The grid covers the image; a ViT pads it at the right and bottom to whole patches."""
        vision = self.clip.vision
        images = pixels.normalise(images, self.config.statistics, pixels.dtype_of(vision))
        if not isinstance(vision, ClipVit):
            return DenseEmbedding(vision.attnpool.cells(vision.trunk(images)))
        tokens, grid = vision.tokens(images)
        return DenseEmbedding(vision.project(vision.values(tokens)).mT.reshape(len(images), -1, *grid))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        return DenseLogits(classifier.logits(embedding.features), classifier.background)


def last_block(vision: ClipVit, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that enter the last block [B, 1 + L, W] -> patches after it [B, L, W] and the class token [B, W].

    A patch keeps its own value (MaskCLIP's Eq. 3-4, with the residual and the FFN); the class token is CLIP's own.
    """
    block, attention = vision.last_block, vision.last_block.self_attn
    inner = block.layer_norm1(tokens)
    values = attention.v_proj(inner)  # of both, which `ClipVit.values` would compute once more
    batch, length, width = values.shape
    heads = attention.num_heads
    query = attention.q_proj(inner[:, :1]).view(batch, 1, heads, -1).transpose(1, 2)  # [B, H, 1, W / H]
    keys = attention.k_proj(inner).view(batch, length, heads, -1).permute(0, 2, 3, 1)  # [B, H, W / H, 1 + L]
    weights = (query @ keys * (width // heads) ** -0.5).softmax(dim=-1)
    pooled = weights @ values.view(batch, length, heads, -1).transpose(1, 2)  # [B, H, 1, W / H]
    mixed = torch.cat([pooled.transpose(1, 2).reshape(batch, 1, width), values[:, 1:]], dim=1)
    tokens = tokens + attention.out_proj(mixed)
    tokens = tokens + block.mlp(block.layer_norm2(tokens))
    return tokens[:, 1:], tokens[:, 0]


@dataclass(frozen=True)
class Training:
    """words: the file of `data.meanings.prepare`; None places `concepts` concepts at random, all unrelated.

    keep: the share of the patches of each picture that go through a ViT, 0-1; of a ResNet, the share that has a loss.
    image, roughly, text: weights of the losses of the whole picture's vector, of single patches in cells whose labels
        say only what they show, and of the words (0: no words are read). absent: of patches of which is known only what
        they do not show.
    balance: how much of the concepts' frequencies is taken out of what the vectors say, 0-1. At 1 a concept that is
        seldom seen is as likely as any other (logit adjustment, Menon et al. 2021).
    """

    words: str | None = None
    concepts: int = 2
    keep: float = 0.5
    image: float = 0.5
    roughly: float = 0.25
    text: float = 1.0
    absent: float = 0.5
    balance: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise SettingError(f"keep is {self.keep}; give a share above 0, up to 1")
        if self.concepts < 2:
            raise SettingError(f"concepts is {self.concepts}; give 2 or more, since others are what one is not")

    def build(self, segmenter: MiniClip, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher, and for words that cannot be read."""
        if teacher is not None:
            raise SettingError("mini_clip_vit learns from labels and words; leave the teacher out")
        return Objective(segmenter, self)


class Objective(nn.Module):
    """Batches of `data.concept_images` in; losses of places, regions, images and words out, or of words alone."""

    unsaved = ("concepts", "related")

    concepts: Tensor  # [C, D]
    related: Tensor  # [C, C]
    frequency: Tensor  # of each concept among the labelled patches of late [C]

    def __init__(self, segmenter: MiniClip, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        concepts, related = _read(self.settings, segmenter.clip.embed_dim)
        self.register_buffer("concepts", concepts)
        self.register_buffer("related", related)
        self.register_buffer("frequency", torch.full((len(concepts),), 1 / len(concepts)))
        # plain attention: the fused kernel for CPUs is slower backwards
        clip = segmenter.clip
        for tower in (clip.text_model, *([clip.vision.model] if isinstance(clip.vision, ClipVit) else [])):
            tower.set_attn_implementation("eager")

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        settings = self.settings
        losses = {}
        if settings.text:
            losses["text"] = settings.text * self._of_words(batch["sentences"], batch["words"], batch["meanings"])
        if "images" not in batch:
            return losses
        statistics = self.segmenter.config.statistics
        images = relight(pixels.normalise(batch["images"], statistics), batch["light"], statistics)
        places, image, kept = self._embed(images, batch["labels"].shape[1:])
        labels, cells = (batch[name].flatten(1).gather(1, kept) for name in ("labels", "cells"))  # [B, K]
        exact = batch["exact"].gather(1, cells)
        prior = self._prior(labels)
        logits = self._logits(places).float() + prior  # [B, K, C]
        return {
            "places": self._of_places(logits, labels, exact),
            "regions": self._of_regions(logits, labels, cells, exact),
            "absent": settings.absent * self._of_absent(logits, labels, batch["absent"]),
            "image": settings.image * self._of_images(self._logits(image).float() + prior, labels),
            **losses,
        }

    def after_step(self, step: int) -> None:
        with torch.no_grad():
            self.segmenter.clip.log_scale.clamp_(max=math.log(LARGEST_SCALE))

    def _embed(self, images: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the kept patches [B, K, D] and of the picture [B, D], and which patches were kept [B, K].

        images: normalised [B, 3, H, W].
        """
        vision, share = self.segmenter.clip.vision, self.settings.keep
        images = images.to(pixels.dtype_of(vision))
        kept = choose(len(images), grid[0] * grid[1], share, images.device)
        if not isinstance(vision, ClipVit):
            features = vision.trunk(images)
            places = upsample(vision.attnpool.cells(features), grid).flatten(2).mT  # [B, L, D]
            return places.gather(1, kept[..., None].expand(-1, -1, places.shape[-1])), vision.attnpool(features), kept
        tokens, _ = vision.embed(images)
        first, patches = tokens[:, :1], tokens[:, 1:]
        tokens = torch.cat([first, patches.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))], dim=1)
        for block in vision.model.encoder.layers[:-1]:
            tokens = block(tokens, None)
        places, image = last_block(vision, tokens)
        return vision.project(places), vision.project(image), kept

    @torch.no_grad()
    def _prior(self, labels: Tensor) -> Tensor:
        """What is added to the logits in training, so that they need not say it themselves [C]."""
        if self.training:
            counts = torch.bincount(labels[labels >= 0], minlength=len(self.frequency)).float()
            self.frequency.lerp_(counts / counts.sum().clamp(min=1), FORGETTING)
        return self.settings.balance * (self.frequency + RAREST).log()

    def _logits(self, vectors: Tensor) -> Tensor:
        """[..., D] -> [..., C]"""
        vectors = functional.normalize(vectors, dim=-1) * self.segmenter.clip.log_scale.exp()
        return vectors @ self.concepts.to(vectors.dtype).T

    def _of_places(self, logits: Tensor, labels: Tensor, exact: Tensor) -> Tensor:
        known = labels >= 0
        if not known.any():
            return logits.sum() * 0.0
        weight = torch.where(exact[known], 1.0, self.settings.roughly)
        return (weight * self._cross_entropy(logits[known], labels[known])).mean()

    def _of_regions(self, logits: Tensor, labels: Tensor, cells: Tensor, exact: Tensor) -> Tensor:
        """Of cells that only show their concept somewhere: all their patches vote."""
        inside = functional.one_hot(cells) * (~exact & (labels >= 0))[..., None]  # [B, K, cells]
        count = inside.sum(dim=1)  # [B, cells]
        means = inside.to(logits.dtype).mT @ logits / count.clamp(min=1)[..., None]  # [B, cells, C]
        label = (inside * labels[..., None]).amax(dim=1)
        if not count.any():
            return logits.sum() * 0.0
        return self._cross_entropy(means[count > 0], label[count > 0]).mean()

    def _of_absent(self, logits: Tensor, labels: Tensor, absent: Tensor) -> Tensor:
        """-log of the share that what is not there leaves to the rest, over patches [B, K] that say so."""
        told = labels < -1
        if not told.any():
            return logits.sum() * 0.0
        at = told.nonzero()[:, 0]
        concept = -3 - labels[told]  # -1: those of the sample's list
        one = functional.one_hot(concept.clamp(min=0), len(self.concepts)).bool() | self.related[concept.clamp(min=0)]
        gone = torch.where((concept < 0)[:, None], absent[at], one)  # [N, C]
        found = logits[told]
        return (found.logsumexp(dim=-1) - found.masked_fill(gone, float("-inf")).logsumexp(dim=-1)).mean()

    def _of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the class token [B, C]: the right answer is what the kept patches show, by area."""
        counts = torch.zeros_like(logits).scatter_add(1, labels.clamp(min=0), (labels >= 0).to(logits))
        excused = ((counts @ self.related.float()) > 0) & (counts == 0)
        target = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        return -(target * logits.masked_fill(excused, -1e4).log_softmax(dim=-1)).sum(dim=1).mean()

    def _of_words(self, sentences: Sequence[Sequence[str]], concepts: Tensor, meanings: Tensor) -> Tensor:
        """One less the cosine with the word's place; for concepts also the cross-entropy with the other concepts."""
        clip, concepts, meanings = self.segmenter.clip, concepts.flatten(), meanings.flatten(0, 1)
        named = concepts >= 0
        rows = clip.tokenizer([sentence for one in sentences for sentence in one])
        vectors = clip.text_features(pad(rows).to(concepts.device))
        targets = torch.where(named[:, None], self.concepts[concepts.clamp(min=0)].to(meanings.dtype), meanings)
        loss = (1 - functional.cosine_similarity(vectors.float(), targets.float(), dim=-1)).mean()
        if named.any():
            loss = loss + 0.5 * self._cross_entropy(self._logits(vectors[named]), concepts[named]).mean()
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[N, C], [N] -> [N] in float32; concepts related to the right one do not count as answers."""
        logits = logits.float().masked_fill(self.related[labels], float("-inf"))
        return functional.cross_entropy(logits, labels, reduction="none")


def relight(images: Tensor, light: Tensor, statistics: Statistics) -> Tensor:
    """Normalised images [B, 3, H, W] in other light [B, 4], see `data.mini.concept_images`; no level is clipped."""
    light = light.to(images)[:, :, None, None]
    contrast, gain = light[:, :1], light[:, 1:]
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in pixels.mean_and_std(statistics))
    return images * contrast + ((0.5 - mean) * (1 - contrast) + gain) / std


def choose(batch: int, length: int, share: float, device: torch.device) -> Tensor:
    """A random `share` of the patches of each picture, in their order [B, K]; all of them where it is 1."""
    if share == 1:
        return torch.arange(length, device=device).expand(batch, -1)
    count = max(1, round(length * share))
    return torch.rand(batch, length, device=device).argsort(dim=1)[:, :count].sort(dim=1).values


def load(variant: Variant) -> MiniClip:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    clip = _random(config) if variant.weights is None else Clip.load(variant.weights)
    return MiniClip(clip, config).eval()


def save(segmenter: MiniClip, folder: str | os.PathLike[str]) -> None:
    """The towers, as precise as they are, and the tokenizer: what transformers reads too."""
    segmenter.clip.save(folder)


SHAPES = {"base": BASE, "base-rn": BASE_RESNET, "tiny": TINY_VIT, "tiny-rn": TINY_RESNET}


def _random(config: Config) -> Clip:
    shape = SHAPES[config.architecture]
    tokenizer = Tokenizer.from_folder(find(EMBEDDED), shape.context)
    content = shape.config()
    content["text_config"]["bos_token_id"] = tokenizer.backend.bos_token_id
    known = None if config.text_tower is None else Clip.load(config.text_tower)
    if known is not None:
        content["text_config"], tokenizer = known.config["text_config"], known.tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = Clip(content, tokenizer).eval()
    if known is not None:
        for part in ("text_model", "text_projection"):
            fit(getattr(clip, part), getattr(known, part).state_dict(), source=config.text_tower or "")
    return clip


def _read(settings: Training, dimension: int) -> tuple[Tensor, Tensor]:
    if settings.words is None:
        random = torch.Generator().manual_seed(0)
        vectors = functional.normalize(torch.randn(settings.concepts, dimension, generator=random), dim=-1)
        return vectors, torch.zeros(settings.concepts, settings.concepts, dtype=torch.bool)
    try:
        with safe_open(settings.words, "pt") as file:
            vectors, related = file.get_tensor("concepts").float(), file.get_tensor("related")
    except (OSError, SafetensorError) as error:
        raise SettingError(f"objective.words {settings.words} cannot be read ({error}); prepare the words") from error
    if vectors.shape[1] != dimension:
        raise SettingError(
            f"objective.words holds vectors of {vectors.shape[1]} numbers and the model has {dimension}; prepare others"
        )
    return vectors, related


VARIANTS: Mapping[str, Variant] = {
    "mini": Variant(
        Config(),
        Weights.of(EMBEDDED),
        Inference(long_side=256, multiple=8, prompts="vild14"),  # as maskclip/mini
        "the embedded model, as its recipe trains it; maskclip/mini can do more with it",
    ),
    "resnet": Variant(
        Config("base-rn", text_tower=EMBEDDED),
        None,
        Inference(long_side=256, multiple=32, prompts="vild14"),
        "a small CLIP-ResNet beside the embedded text tower; to be trained",
    ),
    "tiny": Variant(Config("tiny"), None, Inference(short_side=64, prompts="single"), "random weights, for tests"),
}
