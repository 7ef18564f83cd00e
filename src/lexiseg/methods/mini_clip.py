"""Teaches an ImageNet trunk where words are.

It learns to put what it sees there, and is the embedded CLIP. Not a paper's method but this project's; docs/log.md has
the tries. The places of all words are decided first,
by a sentence encoder (`data.mini.meanings`), and stay. The image tower (`encoders.clip_lite`) learns to hit them at
every cell, on the path that MaskCLIP reads; its trunk may stay frozen. Its own classes of ImageNet are concepts too,
and the trunk's own opinion about them is a second teacher, so that what no mask names is not forgotten.

Letters: B images, C concepts, D embedding, K photographs of one concept, h w grid of stride 16, s places of 8 pixels.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.clip_lite import ClipLite, recolour
from lexiseg.encoders.clip_shape import TINY_LITE, ClipShape
from lexiseg.encoders.efficientnet_lite import EfficientNetLite, read_package
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import Tokenizer, pad
from lexiseg.encoders.weights import find, fit
from lexiseg.errors import SettingError
from lexiseg.layers import pixels
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, Segmenter, TextClassifier, Traits, Variant
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["VARIANTS", "Config", "MiniClip", "Training", "load", "save", "traits"]

LITE2 = ClipShape(256, 352, 384, "lite2", None, 192, 3, 32, 4093, "gelu", direct=192, inner=96)
UNKNOWN = -1  # a label, as in `data.mini.concept_crops`
FORGETTING, RAREST = 0.02, 1e-4  # of the running frequencies: what a batch counts for, and the least of any concept
SURE = 0.03  # what the trunk itself gives to a class that may be there
LARGEST_SCALE = 100.0
FIRST_SCALE = 20.0


@dataclass(frozen=True)
class Config:
    """architecture: the towers, where no weights are named; "lite2" has the trunk's weights from its package, and what
        is behind the trunk is random.
    text_tower: a CLIP whose text tower is taken then; None is a random one.
    """

    architecture: Literal["lite2", "tiny"] = "lite2"
    text_tower: str | None = None


def traits(config: Config) -> Traits:
    """Each cell is compared with the words by itself."""
    return Traits()


class MiniClip(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """Cells of a CLIP's image tower, each by itself in the attention pool, compared with the words."""

    def __init__(self, clip: Clip, config: Config) -> None:
        super().__init__()
        self.clip, self.config = clip, config

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.clip.patch

    @property
    def vision(self) -> ClipLite:
        assert isinstance(self.clip.vision, ClipLite), "load has checked it"
        return self.clip.vision

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, self.clip.logit_scale)

    def embed_image(self, images: Tensor) -> DenseEmbedding:
        """The grid covers the image, padded with grey at the right and bottom to whole cells."""
        images = pixels.normalise(images, "clip", pixels.dtype_of(self.vision))
        return DenseEmbedding(self.vision.attnpool.cells(self.vision.trunk(images)))

    def classify(self, embedding: DenseEmbedding, classifier: TextClassifier) -> DenseLogits:
        return DenseLogits(classifier.logits(embedding.features), classifier.background)


@dataclass(frozen=True)
class Training:
    """words: the file of `tools/training/places.py`; None places `concepts` concepts at random, all unrelated.

    places: labelled places of each image that have a loss, at most.
    dense, image, cells, whole, absent: weights of the losses of single places, of the vector of a photograph whose
        concept is known, of the trunk's opinion about each cell and about the whole, and of places of which is only
        known what they do not show.
    rare: the power of 1 / frequency that a concept's places are weighted with.
    trunk: the package with the trunk's classifier, for `cells` and `whole`; None leaves both out.
    measure: the first so many steps measure mean and deviation of the trunk's features.
    """

    words: str | None = None
    concepts: int = 2
    places: int = 320
    dense: float = 1.0
    image: float = 0.5
    cells: float = 0.3
    whole: float = 0.5
    absent: float = 0.2
    rare: float = 0.5
    trunk: Literal["lite2"] | None = None
    measure: int = 0

    def build(self, segmenter: MiniClip, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher, and for words that cannot be read."""
        if teacher is not None:
            raise SettingError("mini_clip learns from labels, words and its own trunk; leave the teacher out")
        return Objective(segmenter, self)


class Objective(nn.Module):
    """Batches of `data.mini.concept_crops` in; losses of places, photographs and of what the trunk itself says out."""

    unsaved = ("concepts", "close", "imagenet", "opinion*")

    concepts: Tensor  # [C, D]
    close: Tensor  # whether two concepts may both be right for one place [C, C]
    imagenet: Tensor  # the concept of each of the trunk's classes [1000]
    frequency: Tensor  # of each concept among the labelled places of late [C]
    counts: Tensor  # of this step's [C]

    def __init__(self, segmenter: MiniClip, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        concepts, close, imagenet = _read(settings, segmenter.clip.embed_dim)
        self.register_buffer("concepts", concepts)
        self.register_buffer("close", close)
        self.register_buffer("imagenet", imagenet)
        self.register_buffer("frequency", torch.full((len(concepts),), 1 / len(concepts)))
        self.register_buffer("counts", torch.zeros(len(concepts)))
        self.step = 0
        self.opinion: Opinion | None = None
        if settings.trunk is not None:
            self.opinion = Opinion(read_package(settings.trunk)).requires_grad_(False)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        settings = self.settings
        losses: dict[str, Tensor] = {}
        if "images" in batch and (settings.dense or settings.cells):
            losses |= self._of_crops(batch)
        if "sheets" in batch and batch["sheets"].shape[1]:
            losses |= self._of_sheets(batch["sheets"].flatten(0, 1), batch["named"].flatten())
        return losses

    def before_step(self, step: int) -> None:
        self.step = step

    def after_step(self, step: int) -> None:
        with torch.no_grad():
            if self.counts.any():
                self.frequency.lerp_(self.counts / self.counts.sum(), FORGETTING)
                self.counts.zero_()
            self.segmenter.clip.log_scale.clamp_(max=math.log(LARGEST_SCALE))

    def _of_crops(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        settings, vision = self.settings, self.segmenter.vision
        images = pixels.normalise(batch["images"], "clip", pixels.dtype_of(vision))
        skip, last, lowest = self._maps(images, measure=True)
        dense = vision.attnpool.cells(vision.read(skip, last))  # [B, D, h, w]
        opinion = self._opinion(lowest)  # [B, 1000, h / 2, w / 2]
        losses = self._of_places(dense, batch, opinion) if settings.dense else {}
        if opinion is not None and settings.cells:
            cells = functional.adaptive_avg_pool2d(dense, (opinion.shape[-2], opinion.shape[-1]))
            losses["cells"] = settings.cells * self._agreement(_rows(cells), _rows(opinion))
        return losses

    def _of_places(self, dense: Tensor, batch: Mapping[str, Any], opinion: Tensor | None) -> dict[str, Tensor]:
        """Of single places: those with a label, and those of which is known what they do not show."""
        settings = self.settings
        places = functional.interpolate(dense, scale_factor=2, mode="bilinear", align_corners=False)
        labels = batch["labels"].flatten(1)
        chosen, image = self._choose(labels)
        found, exclusive = labels[image, chosen], batch["exclusive"][image]  # [N], [N, C]
        logits = self._logits(places.flatten(2).mT[image, chosen])
        known = found >= 0
        excused = self._excused(found[known], exclusive[known])
        if opinion is not None:
            # classes that the trunk sees there itself, unless the annotators would have said so
            cell = _cell(chosen[known], labels.shape[1], opinion.shape[-2:])
            seen = opinion.flatten(2).mT[image[known], cell] > SURE  # [N, 1000]
            excused[:, self.imagenet] |= seen & ~exclusive[known][:, self.imagenet]
        losses = {"dense": settings.dense * self._cross_entropy(logits[known], found[known], excused)}
        if settings.absent and not known.all():
            others = logits[~known].masked_fill(batch["things"][image[~known]], -math.inf)
            rest = logits[~known].logsumexp(dim=-1) - others.logsumexp(dim=-1)
            losses["absent"] = settings.absent * rest.mean()
        return losses

    def _of_sheets(self, sheets: Tensor, named: Tensor) -> dict[str, Tensor]:
        settings, vision = self.settings, self.segmenter.vision
        skip, last, lowest = self._maps(pixels.normalise(sheets, "clip", pixels.dtype_of(vision)))
        features = vision.read(skip, last)
        vector = vision.attnpool(features)
        logits = self._logits(vector)
        excused = self.close[named]
        losses = {}
        opinion = self._opinion(lowest, whole=True)
        if opinion is not None:
            excused = excused.clone()
            excused[:, self.imagenet] |= opinion > SURE
            losses["whole"] = settings.whole * self._agreement(vector, opinion)
            mean = vision.attnpool.cells(features).mean(dim=(2, 3))
            losses["mean"] = settings.cells * self._agreement(mean, opinion)
        excused[torch.arange(len(named)), named] = False
        losses["image"] = settings.image * functional.cross_entropy(logits.masked_fill(excused, -math.inf), named)
        return losses

    def _maps(self, images: Tensor, *, measure: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Skip, last map of the tower, and the last map of stride 32 before the head."""
        vision = self.segmenter.vision
        frozen = not any(weight.requires_grad for weight in vision.lite.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            maps = vision.lite(recolour(images.contiguous(memory_format=torch.channels_last)))
            last = functional.relu6(vision.head(maps[3]))
        if measure and self.training and self.step < self.settings.measure:
            self._measure(last)
        return maps[2], last, maps[3]

    @torch.no_grad()
    def _measure(self, last: Tensor) -> None:
        """The cells of all steps so far count alike."""
        vision, cells = self.segmenter.vision, last.float().movedim(1, -1).flatten(0, -2)
        share = 1 / (self.step + 1)
        square = vision.deviation**2 + vision.mean**2
        if self.step == 0:
            square = torch.zeros_like(square)
        vision.mean.lerp_(cells.mean(dim=0), share)
        square = torch.lerp(square, (cells**2).mean(dim=0), share)
        vision.deviation.copy_((square - vision.mean**2).clamp(min=1e-4).sqrt())

    @torch.no_grad()
    def _opinion(self, lowest: Tensor, *, whole: bool = False) -> Tensor | None:
        """The trunk's own posterior of each cell [B, 1000, h, w], or of the picture [B, 1000]."""
        if self.opinion is None:
            return None
        features = functional.relu6(self.opinion.head(lowest)).movedim(1, -1)
        logits: Tensor = self.opinion.classifier(features.mean(dim=(1, 2)) if whole else features)
        return logits.float().softmax(dim=-1).movedim(-1, 1)

    def _choose(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Some of the places that have a label, the same number of every image at most: places [N], images [N]."""
        there = labels != UNKNOWN
        if self.settings.places < labels.shape[1]:
            rank = torch.rand(labels.shape, device=labels.device).masked_fill(~there, 2.0)
            last = rank.kthvalue(self.settings.places, dim=1, keepdim=True).values
            there &= rank <= last
        image, place = there.nonzero(as_tuple=True)
        return place, image

    def _excused(self, labels: Tensor, exclusive: Tensor) -> Tensor:
        """Concepts that do not count as answers: those alike, unless the annotators told them apart [N, C]."""
        apart = exclusive & exclusive.gather(1, labels[:, None])
        return self.close[labels] & ~apart

    def _logits(self, vectors: Tensor) -> Tensor:
        """[N, D] -> [N, C] in float32"""
        vectors = functional.normalize(vectors.float(), dim=-1) * self.segmenter.clip.log_scale.float().exp()
        return vectors @ self.concepts.T

    def _cross_entropy(self, logits: Tensor, labels: Tensor, excused: Tensor) -> Tensor:
        """The mean over all places [N], each weighted by how rare its concept is."""
        if not len(labels):
            return logits.sum() * 0.0
        with torch.no_grad():
            if self.training:
                self.counts += torch.bincount(labels, minlength=len(self.counts))
            power = (self.frequency + RAREST) ** -self.settings.rare
            weight = power[labels] / (self.frequency * power).sum()  # 1 on average
        excused = excused.scatter(1, labels[:, None], False)
        loss = functional.cross_entropy(logits.masked_fill(excused, -math.inf), labels, reduction="none")
        return (loss * weight).mean()

    def _agreement(self, vectors: Tensor, opinion: Tensor) -> Tensor:
        """KL divergence of what the vectors [N, D] say about the trunk's classes from its own opinion [N, 1000]."""
        vectors = functional.normalize(vectors.float(), dim=-1) * self.segmenter.clip.log_scale.float().exp()
        own = (vectors @ self.concepts[self.imagenet].T).log_softmax(dim=-1)
        return functional.kl_div(own, opinion, reduction="batchmean")


class Opinion(nn.Module):
    """What the trunk's package has behind the trunk, which says what ImageNet's classes are there."""

    def __init__(self, package: EfficientNetLite) -> None:
        super().__init__()
        self.head, self.classifier = package.head, package.classifier


def _rows(cells: Tensor) -> Tensor:
    """[B, *, h, w] -> [B h w, *]"""
    return cells.flatten(2).mT.flatten(0, 1)


def _cell(place: Tensor, count: int, grid: tuple[int, int] | torch.Size) -> Tensor:
    """The cell of a grid in which each place of a square of `count` is."""
    side = math.isqrt(count)
    row, column = place // side * grid[0] // side, place % side * grid[1] // side
    return row * grid[1] + column


@dataclass(frozen=True)
class WordTraining:
    """Teaches the text tower alone where words are; words: as in `Training`. It learns from `data` of sentences."""

    words: str | None = None
    concepts: int = 2

    def build(self, segmenter: MiniClip, *, teacher: object = None) -> WordObjective:
        """Raises `SettingError` for a teacher, and for words that cannot be read."""
        if teacher is not None:
            raise SettingError("mini_clip's words learn from their places; leave the teacher out")
        return WordObjective(segmenter, self)


class WordObjective(nn.Module):
    """Sentences in; one less the cosine with the word's place, and for concepts the cross-entropy with the others."""

    unsaved = ("concepts", "close")

    concepts: Tensor  # [C, D]
    close: Tensor  # [C, C]

    def __init__(self, segmenter: MiniClip, settings: WordTraining) -> None:
        super().__init__()
        self.segmenter = segmenter
        concepts, close, _ = _read(settings, segmenter.clip.embed_dim)
        self.register_buffer("concepts", concepts)
        self.register_buffer("close", close)
        # plain attention: the fused kernel for CPUs is slower backwards
        segmenter.clip.text_model.set_attn_implementation("eager")

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        clip, concepts, meanings = self.segmenter.clip, batch["words"].flatten(), batch["meanings"].flatten(0, 1)
        named = concepts >= 0
        rows = clip.tokenizer([sentence for one in batch["sentences"] for sentence in one])
        vectors = functional.normalize(clip.text_features(pad(rows).to(concepts.device)).float(), dim=-1)
        targets = torch.where(named[:, None], self.concepts[concepts.clamp(min=0)], meanings.float())
        losses = {"places": (1 - functional.cosine_similarity(vectors, targets, dim=-1)).mean()}
        if named.any():
            logits = vectors[named] @ self.concepts.T * FIRST_SCALE
            logits = logits.masked_fill(self.close[concepts[named]], -math.inf)
            losses["concepts"] = 0.5 * functional.cross_entropy(logits, concepts[named])
        return losses


def load(variant: Variant) -> MiniClip:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    clip = _random(config) if variant.weights is None else Clip.load(variant.weights)
    if not isinstance(clip.vision, ClipLite):
        raise SettingError("mini_clip trains a tower on EfficientNet-Lite; train a ViT with mini_clip_vit")
    return MiniClip(clip, config).eval()


def save(segmenter: MiniClip, folder: str | os.PathLike[str]) -> None:
    """The towers, as precise as they are, and the tokenizer."""
    segmenter.clip.save(folder)


def _random(config: Config) -> Clip:
    shape = {"lite2": LITE2, "tiny": TINY_LITE}[config.architecture]
    tokenizer = Tokenizer.from_folder(find(EMBEDDED), shape.context)
    content = shape.config()
    content["text_config"]["bos_token_id"] = tokenizer.backend.bos_token_id
    content["logit_scale_init_value"] = math.log(FIRST_SCALE)
    known = None if config.text_tower is None else Clip.load(config.text_tower)
    if known is not None:
        content["text_config"], tokenizer = known.config["text_config"], known.tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = Clip(content, tokenizer).eval()
    if known is not None:
        for part in ("text_model", "text_projection"):
            fit(getattr(clip, part), getattr(known, part).state_dict(), source=config.text_tower or "")
    vision = clip.vision
    assert isinstance(vision, ClipLite), "the shape says so"
    if config.architecture != "tiny":
        package = read_package(config.architecture)
        vision.lite.load_state_dict(package.trunk.state_dict())
        vision.head.load_state_dict(package.head.state_dict())
    return clip


def _read(settings: Training | WordTraining, dimension: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the concepts [C, D], which are alike [C, C], and the concept of each of the trunk's classes."""
    if settings.words is None:
        random = torch.Generator().manual_seed(0)
        vectors = functional.normalize(torch.randn(settings.concepts, dimension, generator=random), dim=-1)
        return vectors, torch.zeros(settings.concepts, settings.concepts, dtype=torch.bool), torch.zeros(0).long()
    try:
        with safe_open(settings.words, "pt") as file:
            vectors = functional.normalize(file.get_tensor("concepts").float(), dim=-1)
            close = file.get_tensor("near") | file.get_tensor("related")
            imagenet = torch.tensor(json.loads(file.metadata().get("imagenet", "[]")), dtype=torch.long)
    except (OSError, SafetensorError) as error:
        raise SettingError(f"objective.words {settings.words} cannot be read ({error}); prepare the words") from error
    if vectors.shape[1] != dimension:
        raise SettingError(
            f"objective.words holds vectors of {vectors.shape[1]} numbers and the model has {dimension}; prepare others"
        )
    return vectors, close, imagenet


VARIANTS: Mapping[str, Variant] = {
    "start": Variant(
        Config(),
        None,
        Inference(short_side=352, multiple=32, prompts="single"),
        "to be trained: the trunk is ImageNet's",
    ),
    "mini": Variant(
        Config(),
        Weights("asset", "mini-clip-lite"),
        Inference(short_side=352, multiple=32, prompts="single"),
        "the embedded model, as its recipe trains it; maskclip/mini can do more with it",
    ),
    "tiny": Variant(Config("tiny"), None, Inference(short_side=64, prompts="single"), "random weights, for tests"),
}
