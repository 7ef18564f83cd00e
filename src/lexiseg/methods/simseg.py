"""Trains a vanilla CLIP that segments, by locality-driven alignment (SimSeg).

A vanilla CLIP segments once its training stops aligning everything with everything.

Yi, Cui, Wu, Yang, Yoshie and Lu, "A Simple Framework for Text-Supervised Semantic Segmentation", CVPR 2023.

A CLIP that is driven by one vector per image and text learns from wherever it finds a hint, so its patches do not say
where an object is. Locality-driven alignment (LoDA) makes that vector sparse: each channel is the mean of its own k
largest patches (k = 5) or words (k = 1), so that only the few places that carry a meaning are aligned. Nothing else is
new in training. To segment, each class that an image probably shows gets a mask of its own from its patches' cosines.

The text of the paper at hand ends after its introduction; the method is as its authors' code has it (§:
docs/papers/simseg.md).
`Config` and `Inference` choose where that code does something unwanted; presets hold one column each.

    setting            paper, released                                  lexiseg (the default)
    text_k_of          the shortest sentence of a batch bounds k  §2.2  each sentence bounds its own k
    colours            truncated after normalising, for the CRF  §2.6   the photograph's own

Fewer classes than `ranked_classes`, and a map without any contrast, make the released code fail. Here all classes are
ranked then, and the threshold is never above the best score, since of two classes none would pass; a class whose map
is flat takes the image. A class of several words scores as its best word, and its mask unites those of its words that
pass. The released code resizes masks to the photograph by nearest neighbour; here the decoder interpolates, which
moves borders by less than a pixel of the network's input. It also leaves a temperature that left its bounds where it
is, without a gradient; `Objective` puts it back.

Letters: B images, N sentences, L tokens, C classes, Q words, D embedding, P patch, h w grid, H W = hP wP.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from skimage.filters import threshold_otsu
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders import vit_bert
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.opening import open_towers
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.token_towers import ClipTokens, TextTokens, TokenTowers
from lexiseg.encoders.vit_bert import VitBert, VitBertShape
from lexiseg.errors import SettingError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.losses.contrastive import info_nce
from lexiseg.refine.crf import dense_crf
from lexiseg.segmenter import (
    DenseEmbedding,
    DenseLogits,
    Inference,
    Segmenter,
    TextClassifier,
    Traits,
    Variant,
    at_least_float32,
)
from lexiseg.settings import presets
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = [
    "PRESETS",
    "VARIANTS",
    "Config",
    "Objective",
    "SimSeg",
    "SimSegEmbedding",
    "Training",
    "candidates",
    "load",
    "loda_pool",
    "save",
    "similarity",
    "traits",
    "word_masks",
]


@dataclass(frozen=True)
class Config:
    """The docstring of this file says which of these differ between released code and the defaults.

    pooling: "loda", or "class_token" for the vanilla CLIP that the paper starts from.
    image_k, text_k: how many of the largest tokens each channel is the mean of; None is all of them.
    text_k_of: whether k is bounded by the length of each sentence, or by that of the shortest in the batch.
    text_length: tokens of a sentence that count.
    rule: how an image is labelled. "simseg" is the authors' (§2.5); "dense" is the softmax over the cosines of patches
        and words, with no image-level score, no mask and no rule for the background.
    ranked_classes: the rule looks at so many classes with the largest scores (K; 30 for Pascal Context).
    most_classes: in an image.
    deviations: a class is in the image when its score reaches the mean of the ranked ones plus so many deviations.
    background_prompt: a word that is ranked like a class, but never painted. Words for the background that a
        vocabulary brings take its place.
    binarise: how a map of 0 to 1 becomes a mask: by the dense CRF (§2.6), at one half, or at Otsu's threshold.
    closing: side of the square that masks are closed with, pixels, odd; 1 leaves them as they are.
    colours: the levels that the CRF sees, the image's own or, as released, those that are left of them when they are
        normalised, brought back and "truncated": many are one lower.
    statistics: what pictures are normalised with, "clip", "imagenet", or mean and standard deviation of RGB in 0-1.
    architecture: what is built where a variant has no weights: the two pretrained towers below, or random ones.
    image_tower, text_tower: hub ids or folders of a ViT (timm's or transformers' layout) and of a BERT.
    tokenizer: a folder or hub id, for weights that bring none.
    allow_pickle: read weights that only come as a pickle, from a source you trust. SimSeg's own do.
    """

    pooling: Literal["loda", "class_token"] = "loda"
    image_k: int | None = 5
    text_k: int | None = 1
    text_k_of: Literal["sentence", "batch"] = "sentence"
    text_length: int = 25
    rule: Literal["simseg", "dense"] = "simseg"
    ranked_classes: int = 10
    most_classes: int = 5
    deviations: float = 1.0
    background_prompt: str | None = "background"
    binarise: Literal["crf", "half", "otsu"] = "crf"
    closing: int = 7
    colours: Literal["own", "truncated"] = "own"
    statistics: Statistics = "clip"
    architecture: Literal["pretrained", "tiny", "tiny-clip", "small-clip"] = "pretrained"
    image_tower: str = "timm/vit_base_patch16_224.augreg_in21k"
    text_tower: str = vit_bert.BERT
    tokenizer: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        pixels.check(self.statistics)
        for name in ("image_k", "text_k", "text_length", "ranked_classes", "most_classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} is {value}; give 1 or more")
        if self.closing < 1 or self.closing % 2 == 0:
            raise SettingError(f"closing is {self.closing}; give an odd number of pixels, or 1 for none")


def traits(config: Config) -> Traits:
    """The authors' rule ranks classes over the image and stretches each map between its extremes there; what no class
    claims is the background.
    """
    own = config.rule == "simseg"
    return Traits(
        whole_image=own,
        background="own" if own else "none",
        classify_settings=(
            "text_k",
            "text_k_of",
            "text_length",
            "ranked_classes",
            "most_classes",
            "deviations",
            "background_prompt",
            "binarise",
            "closing",
        ),
    )


@dataclass(frozen=True, eq=False)
class SimSegEmbedding(DenseEmbedding):
    """features: projected patch tokens, not of unit length [B, D, h, w].

    colours: whole levels, 0-255, of the pixels of each cell [B, 3 P P, h, w]; no channels with the rule "dense".
    image: the whole image as one vector [B, D].
    """

    grid_fields: ClassVar[tuple[str, ...]] = ("features", "colours")
    per_image: ClassVar[tuple[str, ...]] = ("image",)

    colours: Tensor
    image: Tensor


class SimSeg(nn.Module, Segmenter[SimSegEmbedding, TextClassifier]):
    """Two towers whose tokens are pooled channel by channel."""

    def __init__(self, towers: TokenTowers, config: Config) -> None:
        super().__init__()
        self.towers: Any = towers
        self.config = config

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return int(self.towers.patch)

    @property
    def logit_scale(self) -> Tensor:
        """One over the temperature, which is held between 0.001 and 0.5 (§2.1)."""
        temperature: Tensor = self.towers.temperature
        return temperature.clamp(*TEMPERATURES).reciprocal()

    def image_vectors(self, images: Tensor) -> Tensor:
        """One unit vector per image [B, D], as they are compared in training."""
        return self._pool_image(self._image_tokens(images)[0])

    def text_vectors(self, sentences: Sequence[str], *, masked: bool = True, prompts: Prompts | None = None) -> Tensor:
        """One unit vector per sentence [N, D]; not `masked`, padding competes with the words (§2.2).

        prompts: whose context stands beside the sentences.
        """
        config = self.config
        tokens: TextTokens = self.towers.text_tokens(
            sentences, length=config.text_length, padded=not masked, prompts=prompts
        )
        if config.pooling == "class_token":
            places = torch.arange(len(tokens.vectors), device=tokens.summary.device)
            return _unit(at_least_float32(tokens.vectors[places, tokens.summary]))
        mask = tokens.mask if masked else None
        return loda_pool(tokens.vectors, config.text_k, mask=mask, k_of=config.text_k_of)

    @torch.no_grad()
    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        """The sentences of one word are one batch, as released."""
        prompt = self.config.background_prompt
        if (
            self.traits.background == "own"
            and prompt
            and not vocabulary.background
            and prompt not in vocabulary.queries
        ):
            vocabulary = vocabulary.with_background([prompt])
        vectors = self._word_vectors(vocabulary.queries, prompts, cache)
        weight = torch.stack([vectors[word] for word in vocabulary.queries])
        return TextClassifier.of(vocabulary, weight.to(self.towers.temperature.device), float(self.logit_scale))

    def embed_image(self, images: Tensor) -> SimSegEmbedding:
        """The grid covers the image, padded with the mean colour at the right and bottom to whole patches."""
        tokens, grid = self._image_tokens(images)
        features = tokens[:, 1:].mT.reshape(len(tokens), -1, *grid)
        colours = self._colours(images) if self.config.rule == "simseg" else features.new_empty(len(tokens), 0, *grid)
        return SimSegEmbedding(features, colours, self._pool_image(tokens))

    def classify(self, embedding: SimSegEmbedding, classifier: TextClassifier) -> DenseLogits:
        cosines = similarity(embedding, classifier)  # [B, Q, h, w]
        if self.config.rule == "dense":
            return DenseLogits(classifier.pool(cosines * classifier.scale), classifier.background)
        colours = functional.pixel_shuffle(embedding.colours.float().round(), self.patch)  # [B, 3, H, W]
        scores = _unit(embedding.image) @ classifier.weight.to(embedding.image).mT  # [B, Q]
        logits = [
            paint(each, maps, picture.to(torch.uint8), classifier, self.config)
            for each, maps, picture in zip(scores, cosines, colours, strict=True)
        ]
        return DenseLogits(torch.stack(logits), background=True)

    def _word_vectors(self, words: Iterable[str], prompts: Prompts, cache: TextCache | None) -> dict[str, Tensor]:
        """The unit vector [D] of each word, from the cache where it is known."""
        config = self.config
        how = f"{config.pooling} {config.text_k} {config.text_k_of} {config.text_length}"
        key = TextCache.key(f"simseg {self.towers.text_digest()} {how}", prompts) if cache else ""
        known = cache.read(key, words) if cache else {}
        fresh = {}
        for word in dict.fromkeys(words):
            if word not in known:
                each = self.text_vectors(prompts(word), prompts=prompts)
                fresh[word] = functional.normalize(each.mean(dim=0), dim=0)
        if cache and fresh:
            cache.write(key, fresh)
        return known | {word: vector.cpu() for word, vector in fresh.items()}

    def _pool_image(self, tokens: Tensor) -> Tensor:
        if self.config.pooling == "class_token":
            return _unit(at_least_float32(tokens[:, 0]))
        return loda_pool(tokens[:, 1:], self.config.image_k)

    def _image_tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Of RGB bytes, see `TokenTowers`."""
        normalised = pixels.normalise(images, self.config.statistics, pixels.dtype_of(self.towers))
        tokens: tuple[Tensor, tuple[int, int]] = self.towers.image_tokens(normalised)
        return tokens

    def _colours(self, images: Tensor) -> Tensor:
        """RGB bytes as levels in float32, padded with the mean colour, those of a cell together [B, 3 P P, h, w]."""
        height, width = images.shape[-2:]
        mean, std = (torch.tensor(of, device=images.device) for of in pixels.mean_and_std(self.config.statistics))
        sides = -(-height // self.patch) * self.patch, -(-width // self.patch) * self.patch
        levels = (mean * 255).view(3, 1, 1).repeat(len(images), 1, *sides)
        levels[..., :height, :width] = images
        if self.config.colours == "truncated":
            mean, std = mean.view(3, 1, 1), std.view(3, 1, 1)
            normalised = (images / 255 - mean) / std  # as the authors' library computes it, which decides the rounding
            levels[..., :height, :width] = (normalised * std + mean) * 255
        whole = levels.trunc() if self.config.colours == "truncated" else levels.round()
        return functional.pixel_unshuffle(whole.clamp(0, 255), self.patch)


TEMPERATURES = (0.001, 0.5)
HIDDEN = -10_000.0  # the released code's value for what must not be among the largest


def loda_pool(
    tokens: Tensor, k: int | None, *, mask: Tensor | None = None, k_of: Literal["sentence", "batch"] = "sentence"
) -> Tensor:
    """Locality-driven alignment (§2.2): tokens [B, L, D] as unit vectors [B, D].

    Each channel is the mean of its own k largest values, whatever tokens they come from; None is all of them.

    mask: tokens that count [B, L]; None is all. k_of: where a sentence has fewer than k, whether that bounds k for it
    alone or for the whole batch.
    """
    tokens = at_least_float32(tokens)
    count = tokens.shape[1]
    lengths = torch.full((len(tokens),), count, device=tokens.device) if mask is None else mask.sum(dim=1)
    if mask is not None:
        tokens = tokens.masked_fill(~mask[..., None], HIDDEN)
    used = lengths if k is None else lengths.clamp(max=k)  # [B]
    if k_of == "batch":
        used = used.min().expand_as(used)
    largest = tokens if k is None and mask is None else tokens.topk(count if k is None else min(k, count), dim=1).values
    kept = torch.arange(largest.shape[1], device=tokens.device) < used[:, None]  # [B, k]
    return _unit((largest * kept[..., None]).sum(dim=1) / used[:, None])


def similarity(embedding: SimSegEmbedding, classifier: TextClassifier) -> Tensor:
    """The cosine of every patch with every word [B, Q, h, w], which the paper's analysis draws and counts."""
    return classifier.cosines(embedding.features)


def paint(scores: Tensor, cosines: Tensor, colours: Tensor, classifier: TextClassifier, config: Config) -> Tensor:
    """One image by the rule of §2.5, as logits [C + 1, H, W] with the background last.

    scores: of the words [Q], image against word. cosines [Q, h, w]. colours: uint8 [3, H, W].

    Where classes claim a pixel, their logits are their scaled scores; no others can win there, nor the background.
    """
    of_class = classifier.pool(scores[None])[0]
    background = classifier.channels - 1 if classifier.background else None
    chosen, threshold = candidates(of_class, config, background=background)
    never = -classifier.scale  # the cosine is -1
    logits = cosines.new_full((classifier.channels + (background is None), *colours.shape[1:]), never)
    logits[-1] = 0
    class_of = classifier.class_of.to(scores.device)
    words = [word for word in torch.nonzero(scores >= threshold)[:, 0].tolist() if int(class_of[word]) in chosen]
    if not words:
        return logits
    for word, mask in zip(words, word_masks(cosines[words], colours, config), strict=True):
        index = int(class_of[word])
        if of_class[index] > 0:  # the released code multiplies masks by scores, and starts from 0
            logits[index].masked_fill_(mask, float(classifier.scale * of_class[index]))
            logits[-1].masked_fill_(mask, never)
    return logits


def candidates(scores: Tensor, config: Config, *, background: int | None = None) -> tuple[list[int], float]:
    """The classes that are in an image, best first, and the threshold they reach (§2.5, 3-4).

    scores: of classes [C]. background: the one that takes a place among them, but is not a candidate.
    """
    best, order = scores.topk(min(config.ranked_classes, len(scores)))
    deviation = best.std() if len(best) > 1 else best.new_zeros(())  # n - 1, as released
    threshold = best.mean() + config.deviations * deviation
    if len(scores) < config.ranked_classes:  # where the released code fails
        threshold = torch.minimum(threshold, best[0])
    first = order[: config.most_classes].tolist()
    return [index for index in first if index != background and scores[index] >= threshold], float(threshold)


def word_masks(cosines: Tensor, colours: Tensor, config: Config) -> Tensor:
    """Where M words are: cosines [M, h, w] and colours uint8 [3, H, W] as masks [M, H, W] (§2.5, 4 a-d)."""
    low, high = (bound[:, None, None] for bound in torch.aminmax(cosines.flatten(1), dim=1))
    flat = high - low < FLAT
    patch = colours.shape[1] // cosines.shape[1]
    likely = ((cosines - low) / (high - low).clamp(min=FLAT)).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    if config.binarise == "crf":
        masks = _crf(likely, colours)
    elif config.binarise == "otsu":
        masks = torch.stack([each > float(threshold_otsu(each.cpu().numpy())) for each in likely])
    else:
        masks = likely > 0.5
    return _close(masks, config.closing) | flat


FLAT = 1e-6  # difference of two cosines that is rounding


def _crf(likely: Tensor, colours: Tensor) -> Tensor:
    """§2.6: two labels for each map [M, H, W], whose probabilities are 1 - m and m."""
    rgb = np.ascontiguousarray(colours.permute(1, 2, 0).cpu().numpy())
    posterior = dense_crf(torch.stack([1 - likely, likely], dim=1), rgb)
    mask: Tensor = posterior[:, 1] > posterior[:, 0]
    return mask


def _close(masks: Tensor, side: int) -> Tensor:
    """Morphological closing [M, H, W] with a square; what lies outside the image neither adds nor takes away."""
    grown = functional.max_pool2d(masks.float(), side, stride=1, padding=side // 2)
    closed: Tensor = -functional.max_pool2d(-grown, side, stride=1, padding=side // 2)
    return closed > 0.5


@dataclass(frozen=True)
class Training:
    """masked_text: leave padding out of the texts' pooling. The released models were trained without (§2.4)."""

    masked_text: bool = False

    def build(self, segmenter: SimSeg, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher."""
        if teacher is not None:
            raise SettingError("simseg learns from captions alone; leave the teacher out")
        return Objective(segmenter, self)


class Objective(nn.Module):
    """Images against their texts, pooled; nothing else (§2.3)."""

    def __init__(self, segmenter: SimSeg, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.loss(*self.embed(batch))

    def embed(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        texts = self.segmenter.text_vectors(batch["texts"], masked=self.settings.masked_text)
        return self.segmenter.image_vectors(batch["images"]), texts

    def loss(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        return {"contrast": info_nce(images, texts, self.segmenter.logit_scale)}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        self.segmenter.towers.temperature.clamp_(*TEMPERATURES)


def load(variant: Variant) -> SimSeg:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config = variant.config
    if variant.weights is None:
        towers = _fresh(config)
    else:
        towers = open_towers(variant.weights, tokenizer=config.tokenizer, allow_pickle=config.allow_pickle)
    # how these weights were read says nothing about the folder that they may be saved in
    return SimSeg(towers, replace(config, tokenizer=None, allow_pickle=False)).eval()


def save(segmenter: SimSeg, folder: str | os.PathLike[str]) -> None:
    """The towers with their tokenizer: the authors' names for ViT and BERT, transformers' for a CLIP."""
    segmenter.towers.save(folder)


def _fresh(config: Config) -> TokenTowers:
    if config.architecture == "pretrained":
        return VitBert.start(config.image_tower, config.text_tower, allow_pickle=config.allow_pickle)
    if config.architecture == "tiny":
        return VitBert.random(vit_bert.TINY)
    return ClipTokens(Clip.random(TINY_VIT if config.architecture == "tiny-clip" else SMALL_CLIP))


def _unit(vectors: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / (norm + 1e-8)  # §2.2


# for the miniature: 64 tokens of a canvas of 128 pixels, and the words of the embedded model's tokenizer
SMALL_CLIP = ClipShape(128, 128, 128, 4, 16, 128, 2, context=32, vocabulary=4093, activation="gelu")


_USUAL = Inference(size=(288, 288), prompts="imagenet80")


def _released(name: str, width: int, image_tower: str, about: str) -> Variant:
    about = f"{about}; needs weights=PATH of the authors' checkpoint"
    where = "get it by hand, from the drive that github.com/muyangyi/SimSeg links to"
    shape = VitBertShape(224, 16, width, 12, 768, 12)
    weights = Weights("by_hand", f"SimSeg's checkpoint of {name}", where, pickled=True, shape=shape)
    return Variant(Config(image_tower=image_tower, statistics="imagenet"), weights, _USUAL, about)


_ALL_PASS: dict[str, Any] = {"deviations": -10.0, "most_classes": 10}  # random weights rank classes at random
_TINY = Inference(size=(64, 64), prompts="single")

VARIANTS: Mapping[str, Variant] = {
    "mini": Variant(
        Config(rule="dense"),  # it scores higher than the authors' rule (docs/results.md)
        Weights("asset", "simseg-mini"),
        Inference(long_side=192, multiple=8, prompts="vild14"),
        "embedded: the embedded CLIP after captions and LoDA, for comparisons; maskclip/mini sees more",
    ),
    "tiny": Variant(
        Config(architecture="tiny", statistics="imagenet", **_ALL_PASS), None, _TINY, "random ViT and BERT, for tests"
    ),
    "tiny-clip": Variant(Config(architecture="tiny-clip", **_ALL_PASS), None, _TINY, "a random CLIP, for tests"),
    "vit-s16": _released(
        "ViT-S/16", 384, "timm/vit_small_patch16_224.augreg_in21k", "ViT-S/16 and BERT, 131 M parameters"
    ),
    "vit-b16": _released(
        "ViT-B/16", 768, "timm/vit_base_patch16_224.augreg_in21k", "ViT-B/16 and BERT, 196 M parameters"
    ),
    "custom": Variant(
        Config(),
        None,
        _USUAL,
        "any CLIP with a ViT: weights= is a hub id, a folder or one of OpenAI's files",
    ),
}

_RELEASED: dict[str, Any] = {"text_k_of": "batch", "colours": "truncated", "statistics": "imagenet"}
_RELEASED |= {"size": (288, 288), "prompts": "imagenet80"}

PRESETS = presets(
    Config,
    besides=("architecture", "image_tower", "text_tower", "tokenizer", "allow_pickle", "statistics"),
    shared={},
    paper=_RELEASED,
    released=_RELEASED,
)
