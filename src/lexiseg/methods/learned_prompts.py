"""Learns the words around a word as vectors.

They are trained on crops of the classes that are labelled.

Xu, Zhang, Wei, Lin, Cao, Hu and Bai, "A Simple Baseline for Open-Vocabulary Semantic Segmentation with Pre-trained
Vision-Language Model", ECCV 2022, section 4.2 ("Learning-Based Prompt").

A word's sentence is [start] v_1 ... v_16 word . [end], where the v_i are vectors in the place of tokens, the same for
every word. They are all that is trained: CLIP's image vector of a crop of a class, whose other pixels are filled, is to
lie nearest to the vector of its word. They never see the word of an unseen class, and serve it all the same.

    cross-entropy over the seen classes of  s cos(CLIP(crop), text([start] v word . [end]))          s: the logit scale

What comes out is a file, FILE.safetensors, for every model that reads words with this CLIP's text tower: `lexiseg
segment --prompts FILE.safetensors`, `--set prompts=FILE.safetensors`, `lexiseg.Prompts.open(FILE)`. As a model by
itself this is CLIP read out at every place, as MaskCLIP does (Eq. 3-4 there), with these prompts whatever others it is
given.

Where the paper and the authors' code disagree, `Training`, data and recipe choose (§: docs/papers/zsseg_fcn.md):

    setting             paper (its text)   released (the code)                   lexiseg (the default)
    fill                erased             CLIP's mean as a normalised value,    the mean colour, which is 0 there
                                           a light grey  §7.2
    augmentation.size   not said           244 high and 224 wide  §7.2           CLIP's own input
    logit_scale         divided by 100     100                                   the weights' own (100 in OpenAI's)
    the recipe's clip   not said           gradients cut to a norm of 0.01       none

Letters: B crops, Q words, D embedding, W width of the text tower, H W pixels, h w grid.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_resnet import ClipResNet
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.weights import find
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, Segmenter, TextClassifier, Traits, Variant
from lexiseg.settings import require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["FILE", "VARIANTS", "Config", "LearnedPrompts", "PromptLearning", "Training", "load", "save", "traits"]

_logger = logging.getLogger(__name__)

FILE = "learned.safetensors"  # beside the model's weights, and of use without them
SENTENCE = "{}."  # what stands between the vectors and the end token
DEVIATION = 0.02  # of the vectors before training, as of CLIP's own token embeddings


@dataclass(frozen=True)
class Config:
    """length: how many vectors stand before the word.
    architecture: the CLIP of random weights where a variant has none of its own, for tests.
    tokenizer: a folder, or OpenAI's merges file, for weights that bring none (OpenAI's files).
    allow_pickle: read weights that only come as a pickle, from a source you trust.
    """

    length: int = 16
    architecture: Literal["of_weights", "tiny"] = "of_weights"
    tokenizer: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        require(self.length >= 1, "length", "1 or more (vectors)", self.length)


def traits(config: Config) -> Traits:
    return Traits()


class LearnedPrompts(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """CLIP, and vectors [T, W] to put before words.

    learned: whether the vectors come from training.
    """

    def __init__(self, clip: Clip, context: Tensor, config: Config, *, learned: bool = False) -> None:
        super().__init__()
        self.clip: Any = clip.requires_grad_(False)
        self.config, self.learned = config, learned
        self.context = nn.Parameter(context)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return int(self.clip.patch)

    @property
    def prompts(self) -> Prompts:
        """The vectors as prompts; gradients flow to them."""
        return Prompts((SENTENCE,), self.context)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        """With the learned prompts, whatever others are given; says so where they are not learned yet."""
        if not self.learned:
            _logger.warning("these prompts are random, not learned; train them with lexiseg train learned_prompts")
        words = self.clip.embed_words(vocabulary.queries, self.prompts, cache=cache)
        return TextClassifier.of(vocabulary, words, self.clip.logit_scale)

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        """Every place by its own value (maskclip.md §2.3, §2.4)."""
        vision, images = self.clip.vision, self.normalise(images)
        if isinstance(vision, ClipResNet):
            return DenseEmbedding(vision.attnpool.cells(vision.trunk(images)))
        tokens, grid = vision.tokens(images)
        return DenseEmbedding(vision.project(vision.values(tokens)).mT.reshape(len(images), -1, *grid))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        return DenseLogits(classifier.logits(embedding.features), classifier.background)

    def normalise(self, images: Tensor) -> Tensor:
        """As this CLIP takes them."""
        clip = self.clip
        return pixels.normalise(images, (clip.mean, clip.std), pixels.dtype_of(clip.vision))


@dataclass(frozen=True)
class Training:
    """How the vectors are learned; data are crops of classes (`data.labelled.regions`).

    words: the classes that crops are labelled with, in the order of the labels, as `Vocabulary` reads them.
    unseen: those of them that no crop shows, and that do not compete.
    fill: what pixels of a crop that are not of its class become: the "mean" colour, "black", or as "released" the mean
        taken for a normalised value, a light grey.
    logit_scale: cosines times this are logits; None is what the CLIP's weights learned.
    start: "random" vectors, drawn anew by the recipe's seed, or those that the model "has".
    """

    words: str | tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    fill: Literal["mean", "black", "released"] = "mean"
    logit_scale: float | None = None
    start: Literal["random", "has"] = "random"

    def __post_init__(self) -> None:
        scale = self.logit_scale
        require(scale is None or 0 < scale < float("inf"), "logit_scale", "a number above 0", scale)

    def build(self, segmenter: LearnedPrompts, *, teacher: object = None) -> PromptLearning:
        """Raises `SettingError` for a teacher, and for fewer than two classes to tell apart."""
        if teacher is not None:
            raise SettingError("prompts are learned from labels alone; leave the teacher out")
        if not self.words:
            raise SettingError('there are no words to train on; give for example --set words="cat, grass, sky"')
        if self.start == "random":
            with torch.no_grad():
                segmenter.context.copy_(DEVIATION * torch.randn(segmenter.context.shape))
        segmenter.learned = True
        return PromptLearning(segmenter, self)


class PromptLearning(nn.Module):
    """Batches of crops in, the cross-entropy of their classes out. Gradients reach the vectors and nothing else."""

    unsaved = ("segmenter.clip.*",)

    def __init__(self, segmenter: LearnedPrompts, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        every = Vocabulary(settings.words, shared_words=not isinstance(settings.words, str))
        unseen = {every.index(name) for name in settings.unseen}
        self._names = every.names
        self._seen = [place for place in range(len(every)) if place not in unseen]
        if len(self._seen) < 2:
            raise SettingError(f"{len(self._seen)} seen classes leave nothing to tell apart; name two or more")
        self._asked = every.only(self._seen)
        self._right, self._crops = torch.zeros(()), 0

    def before_step(self, step: int) -> None:
        self._right, self._crops = torch.zeros(()), 0

    def report(self) -> dict[str, float]:
        """The share of the crops whose own word is the nearest."""
        return {"accuracy": float(self._right) / max(self._crops, 1)}

    def train(self, mode: bool = True) -> PromptLearning:
        super().train(mode)
        self.segmenter.clip.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: "images" uint8 [B, 3, H, W], "masks" bool [B, H, W], "labels" [B]."""
        targets = self._targets(batch["labels"])
        logits = self.logits(self.see(batch["images"], batch["masks"]))
        self._right = self._right.to(logits.device) + (logits.detach().argmax(dim=1) == targets).sum()
        self._crops += len(targets)
        return {"words": functional.cross_entropy(logits, targets)}

    @torch.no_grad()
    def see(self, images: Tensor, masks: Tensor) -> Tensor:
        """CLIP's vectors of crops whose other pixels are filled [B, D]."""
        crops = self.segmenter.normalise(images)
        fill = self._fill(crops)
        vectors: Tensor = self.segmenter.clip.image_features(torch.where(masks[:, None], crops, fill))
        return vectors

    def logits(self, vectors: Tensor) -> Tensor:
        """Of the seen classes: [B, D] -> [B, C], with gradients to the vectors before the words."""
        clip, scale = self.segmenter.clip, self.settings.logit_scale
        words = clip.word_vectors(self._asked.queries, self.segmenter.prompts)
        classifier = TextClassifier.of(self._asked, words, clip.logit_scale if scale is None else scale)
        return classifier.logits(vectors[..., None, None])[..., 0, 0]

    def _fill(self, crops: Tensor) -> Tensor:
        """What takes the place of pixels, normalised [3, 1, 1]."""
        mean, std = (
            crops.new_tensor(each).view(3, 1, 1) for each in (self.segmenter.clip.mean, self.segmenter.clip.std)
        )
        return {"mean": torch.zeros_like(mean), "black": -mean / std, "released": mean}[self.settings.fill]

    def _targets(self, labels: Tensor) -> Tensor:
        """Places among the seen classes."""
        known = torch.unique(labels).tolist()
        if not 0 <= known[0] <= known[-1] < len(self._names):
            wrong = known[-1] if known[-1] >= len(self._names) else known[0]
            raise DataError(
                f"a crop is labelled {wrong} and there are {len(self._names)} classes; check words and data"
            )
        if told := sorted(set(known) - set(self._seen)):
            raise DataError(
                f"crops are labelled {self._names[told[0]]!r}, which is said to be unseen; let the data suppress or "
                "hide that class"
            )
        table = labels.new_zeros(len(self._names))
        table[self._seen] = torch.arange(len(self._seen), device=labels.device)
        return table[labels]


def load(variant: Variant) -> LearnedPrompts:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    # how weights were read says nothing about the folder that they may be saved in
    own = replace(config, tokenizer=None, allow_pickle=False)
    if variant.weights is None:
        if config.architecture != "tiny":
            raise WeightsError("this variant of learned_prompts has no CLIP of its own; name one with weights=")
        return _untrained(Clip.random(TINY_VIT), own)
    clip = Clip.load(variant.weights, tokenizer=config.tokenizer, allow_pickle=config.allow_pickle)
    place = find(variant.weights, allow_pickle=config.allow_pickle)
    file = (place if place.is_dir() else place.parent) / FILE
    if not file.is_file():
        return _untrained(clip, own)
    found = Prompts.open(file)
    if found.context is None or found.sentences != (SENTENCE,) or found.before != len(found.context):
        raise WeightsError(f"{file} does not hold vectors that stand before a word; train them again")
    return LearnedPrompts(clip, found.context, replace(own, length=len(found.context)), learned=True).eval()


def save(segmenter: LearnedPrompts, folder: str | os.PathLike[str]) -> None:
    """The CLIP, and what was learned in a file of its own. Raises `OutputError`."""
    segmenter.clip.save(folder)
    if segmenter.learned:
        segmenter.prompts.save(Path(folder) / FILE)


def _untrained(clip: Clip, config: Config) -> LearnedPrompts:
    """Always the same random vectors."""
    generator = torch.Generator().manual_seed(0)
    context = DEVIATION * torch.randn(config.length, clip.shape.text_width, generator=generator)
    return LearnedPrompts(clip, context, config).eval()


_LARGE = Inference(short_side=512, long_side=2048, multiple=16, prompts="single")

VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(Config(4, "tiny"), None, Inference(short_side=64, prompts="single"), "random weights, for tests"),
    "vit-b16": Variant(
        Config(),
        Weights("hub", "openai/clip-vit-base-patch16", shape=ClipShape(512, 224, 768, 12, 16, 512, 12)),
        _LARGE,
        "for OpenAI's CLIP ViT-B/16, 599 MB; to be trained",
    ),
    "custom": Variant(Config(), None, _LARGE, "for any CLIP: weights= is a hub id, a folder or one of OpenAI's files"),
}
