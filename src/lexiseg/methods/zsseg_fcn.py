"""Compares every place with words, without masks: ZSSeg's rival.

It is CLIP at every place, and an ordinary network beside it that was trained on words.

Xu, Zhang, Wei, Lin, Cao, Hu and Bai, "A Simple Baseline for Open-Vocabulary Semantic Segmentation with Pre-trained
Vision-Language Model", ECCV 2022, section 5.

The network, an FCN, is trained on the seen classes with CLIP's text vectors as its classifier, so that it can be asked
about any word. CLIP itself looks at small windows, as large as the pictures that it was trained on, and says something
of each patch. Both answers are averaged geometrically as in ZSSeg, pixel by pixel, the network leading for seen classes
and CLIP for unseen ones. Windows, sizes and mirrored pictures are averaged as probabilities.

    trained branch   p = softmax over the classes of 100 cos(network's feature, word)
    CLIP branch      r = softmax over the classes of the scaled cos(CLIP's vector, word)
    seen class       p^w r^(1-w)          unseen class   p^(1-w) r^w         w: `ensemble_weight`

Where the paper and the authors' code disagree, `Config` and `Inference` choose (§: docs/papers/zsseg_fcn.md); the
presets "paper" and "released" hold one column each.

    setting          paper (its text)         released (the code)               lexiseg (the default)
    clip_vectors     the feature map's        of the whole window  §7.1         the feature map's
    upsampled        not said                 features, before cosines  §7.1    scores, as in training
    ensemble_weight  not said                 0.7                               0.7
    clip_scale       divided by 100 (a slip)  100                               the CLIP's own (100 in OpenAI's)
    scales, flip     windows alone            320 to 1120 pixels, flips  §7.1   windows alone

A vocabulary that does not say which classes were seen has unseen ones only, as released; background words are unseen.

Letters: B images, C classes, Q words, D embedding, h w grid, H W pixels.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import files
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.weights import find, fit, portable, read_folder, read_json
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.losses.pseudo_labels import UNLABELLED, cross_entropy, upsample
from lexiseg.networks.student_network import StudentNetwork, StudentShape
from lexiseg.segmenter import Embedding, Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant
from lexiseg.settings import presets, require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = [
    "PRESETS",
    "VARIANTS",
    "Config",
    "FcnEmbedding",
    "FcnTeaching",
    "Training",
    "Words",
    "ZsSegFcn",
    "ensemble",
    "load",
    "save",
    "traits",
]

_RESNET101 = StudentShape("fpn", "rn101", stem="v1", output_stride=32)


@dataclass(frozen=True)
class Config:
    """The docstring of this file says which of these differ between paper, released code and the defaults.

    network: the network that is trained.
    start_from: weights of its backbone before training: "usual" are ImageNet's, or the CLIP's that it names, else a hub
        id, folder or file; None is random ones.
    fixed_norms: batch normalisation of the backbone keeps the numbers that it came with, in training too.
    network_statistics: what pictures are normalised with for it, "clip", "imagenet", or mean and standard deviation of
        RGB in 0-1. CLIP's branch has the CLIP's own.
    clip: the CLIP (hub id, folder, "asset:NAME"; "random" for tests).
    branches: which of the two are asked.
    ensemble_weight: w, 0-1, of the leading branch: the network for seen classes, CLIP for unseen ones.
    unseen_weight: w for unseen classes, where it is another.
    trained_scale, clip_scale: cosines times this are the branches' logits; None is what the CLIP's weights learned.
    clip_vectors: of all "patches" of what it is given, a window, as CLIP's tower ends (maskclip.md §2.5); or of the
        whole "image", for every place of it.
    upsampled: the network's "scores", or its "features" before they are compared, to every pixel.
    allow_pickle: read weights that only come as a pickle, from a source you trust.
    """

    network: StudentShape = _RESNET101
    start_from: str | None = None
    fixed_norms: bool = True
    network_statistics: Statistics = "imagenet"
    clip: str = "openai/clip-vit-base-patch16"
    branches: Literal["both", "trained", "clip"] = "both"
    ensemble_weight: float = 0.7
    unseen_weight: float | None = None
    trained_scale: float | None = 100.0
    clip_scale: float | None = None
    clip_vectors: Literal["patches", "image"] = "patches"
    upsampled: Literal["scores", "features"] = "scores"
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        pixels.check(self.network_statistics)
        for name in ("ensemble_weight", "unseen_weight"):
            value = getattr(self, name)
            require(value is None or 0 <= value <= 1, name, "a weight, 0 to 1", value)
        for name in ("trained_scale", "clip_scale"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, name, "a number above 0", value)


def traits(config: Config) -> Traits:
    """Seen classes are those whose word vectors the network was trained with."""
    return Traits(
        reads_seen=True,
        classify_settings=("ensemble_weight", "unseen_weight", "trained_scale", "clip_scale", "upsampled"),
    )


@dataclass(frozen=True, eq=False)
class FcnEmbedding(Embedding):
    """features: the network's [B, D, h, w], or none where it is not asked.

    clip: CLIP's vectors on a grid of their own [B, D, h, w], of one cell where they are of the whole image.
    stride, cell: pixels per cell of the two grids.
    """

    per_image: ClassVar[tuple[str, ...]] = ("features", "clip")

    features: Tensor
    clip: Tensor
    stride: int
    cell: int


@dataclass(frozen=True, eq=False)
class Words:
    """A classifier for each branch, and which channels were not seen in training, bool [C] or [C + 1]."""

    trained: TextClassifier
    clip: TextClassifier
    unseen: Tensor


class ZsSegFcn(nn.Module, Segmenter[FcnEmbedding, Words]):
    """Two answers for every place; what is classified is one window."""

    def __init__(self, clip: Clip, config: Config, *, source_config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.clip: Any = clip.requires_grad_(False)
        self.network = StudentNetwork(config.network, clip.embed_dim, source_config=source_config)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.network.stride

    @torch.no_grad()
    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> Words:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        trained, clip = (
            TextClassifier.of(vocabulary, weight, self.clip.logit_scale if scale is None else scale)
            for scale in (self.config.trained_scale, self.config.clip_scale)
        )
        seen = vocabulary.seen or (False,) * len(vocabulary)
        unseen = [not each for each in seen] + [True] * (vocabulary.channels - len(vocabulary))
        return Words(trained, clip, torch.tensor(unseen, device=weight.device))

    def embed_image(self, images: Tensor) -> FcnEmbedding:
        nothing = images.new_zeros(len(images), 0, 1, 1, dtype=torch.float32)
        features, clip = nothing, nothing
        if self.config.branches != "clip":
            features = self.features(images)
        if self.config.branches != "trained":
            clip = self._clip_vectors(images)
        cell = self.clip.patch if self.config.clip_vectors == "patches" else max(images.shape[-2:])
        return FcnEmbedding(features, clip, self.network.stride, cell)

    def classify(self, embedding: FcnEmbedding, classifier: Words) -> MaskScores:
        """A weight for every class and place: the masks are the classes, each of its own alone."""
        weights, cell = self._weights(embedding, classifier)
        channels, (height, width) = weights.shape[1], weights.shape[-2:]
        each = torch.eye(channels, device=weights.device)[None].expand(len(weights), -1, -1)
        covers = (height * cell, width * cell)
        return MaskScores(weights, each, classifier.clip.background, weights="linear", covers=covers)

    def features(self, images: Tensor) -> Tensor:
        """The network's, of bytes [B, 3, H, W]: [B, D, h, w]."""
        found: Tensor = self.network(
            pixels.normalise(images, self.config.network_statistics, pixels.dtype_of(self.network))
        )
        return found

    @torch.no_grad()
    def _clip_vectors(self, images: Tensor) -> Tensor:
        """[B, D, h, w], of one cell for all of the image or of CLIP's own."""
        clip = self.clip
        images = pixels.normalise(images, (clip.mean, clip.std), pixels.dtype_of(clip.vision))
        if self.config.clip_vectors == "image":
            vectors: Tensor = clip.image_features(images)[..., None, None]
        else:
            vectors = clip.vision.dense(images)
        return vectors

    def _weights(self, embedding: FcnEmbedding, classifier: Words) -> tuple[Tensor, int]:
        """Of every class at every place [B, C, h, w], and the pixels per cell of their grid."""
        trained = clip = None
        cell = embedding.stride
        if embedding.features.shape[1]:
            features = embedding.features
            if self.config.upsampled == "features":
                features, cell = upsample(features, [cell * side for side in features.shape[-2:]]), 1
            trained = classifier.trained.logits(features).softmax(dim=1)
        if embedding.clip.shape[1]:
            clip = classifier.clip.logits(embedding.clip).softmax(dim=1)
        if trained is None or clip is None:
            only, cell = (clip, embedding.cell) if trained is None else (trained, cell)
            assert only is not None, "one of the branches is asked"
            return only, cell
        clip = _at_places(clip, embedding.cell, (trained.shape[-2], trained.shape[-1]), cell)
        config = self.config
        of_unseen = config.ensemble_weight if config.unseen_weight is None else config.unseen_weight
        return ensemble(trained, clip, classifier.unseen, config.ensemble_weight, of_unseen), cell


def ensemble(trained: Tensor, clip: Tensor, unseen: Tensor, of_seen: float, of_unseen: float) -> Tensor:
    """The geometric mean of two posteriors [B, C, h, w] (§7.1).

    unseen: which channels were not seen, bool [C]. of_seen, of_unseen: w of the branch that leads, 0-1.
    """
    share = torch.where(unseen.to(trained.device), 1 - of_unseen, of_seen)[:, None, None].to(trained)  # of `trained`
    return trained.pow(share) * clip.pow(1 - share)


def _at_places(values: Tensor, cell: int, grid: tuple[int, int], other: int) -> Tensor:
    """Values [B, C, h, w] on cells of `cell` pixels, bilinear, at the middles of a grid's cells of `other` pixels."""
    if values.shape[-2:] == (1, 1):
        return values.expand(-1, -1, *grid)
    along = []
    for cells, places in zip(values.shape[-2:], grid, strict=True):
        middles = (torch.arange(places, device=values.device, dtype=values.dtype) + 0.5) * other
        along.append(2 * middles / (cells * cell) - 1)  # -1 and 1 are the outer borders
    rows, columns = torch.meshgrid(*along, indexing="ij")
    where = torch.stack([columns, rows], dim=-1).expand(len(values), -1, -1, -1)
    return functional.grid_sample(values, where, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Training:
    """How the network learns the words of the seen classes.

    words: the classes that pixels are labelled with, in the order of the labels, as `Vocabulary` reads them.
    unseen: those of them that no pixel is labelled with, which the network is not told of.
    prompts: what the words are put into; see `Inference.prompts`.
    """

    words: str | tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    prompts: str = "a sculpture of a {}."

    def build(self, segmenter: ZsSegFcn, *, teacher: object = None) -> FcnTeaching:
        """Raises `SettingError` for a teacher, without words, and for fewer than two classes to tell apart."""
        if teacher is not None:
            raise SettingError("zsseg_fcn learns from labels alone; leave the teacher out")
        if not self.words:
            raise SettingError('there are no words to train on; give for example --set words="cat, grass, sky"')
        if segmenter.config.branches == "clip":
            raise SettingError("branches=clip leaves nothing to train; set branches=both")
        return FcnTeaching(segmenter, self)


class FcnTeaching(nn.Module):
    """Batches of `data.labelled` in; the cross-entropy of their labelled pixels out. CLIP is not trained."""

    unsaved = ("segmenter.clip.*",)

    def __init__(self, segmenter: ZsSegFcn, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        words = Vocabulary(settings.words, shared_words=not isinstance(settings.words, str))
        unseen = {words.index(name) for name in settings.unseen}
        self._names = words.names
        self._seen = [place for place in range(len(words)) if place not in unseen]
        if len(self._seen) < 2:
            raise SettingError(f"{len(self._seen)} seen classes leave nothing to tell apart; name two or more")
        self._asked = words.only(self._seen)
        self._ignore = 255 if len(words) <= 255 else 65_535  # as `data` numbers it
        self._words: tuple[torch.device, TextClassifier] | None = None
        self._labelled, self._pixels = torch.zeros(()), 0
        self._whole: Tensor | None = None  # labelled pixels for each picture of the whole batch
        if segmenter.config.fixed_norms:
            for norm in self._norms():
                norm.requires_grad_(False)

    def before_step(self, step: int) -> None:
        self._labelled, self._pixels, self._whole = torch.zeros(()), 0, None
        self._classifier()  # here, since inside of a step weights may be half as precise

    def before_batch(self, batch: Mapping[str, Any], average: Callable[[Tensor], Tensor]) -> None:
        """Counts the labelled pixels of a picture, whatever pieces the batch comes in."""
        labels = batch["labels"]
        counts = (self._targets(labels) != self._ignore).sum().float() / len(labels)
        self._labelled, self._pixels, self._whole = torch.zeros(()), 0, average(counts)

    def report(self) -> dict[str, float]:
        """The share of the pixels that have a label, pseudo-labels among them."""
        return {"labelled": float(self._labelled) / max(self._pixels, 1)}

    def inference(self, variant: Inference) -> Inference:
        """How the trained network is to be used: with the prompts that it was trained with."""
        return replace(variant, prompts=self.settings.prompts)

    def train(self, mode: bool = True) -> FcnTeaching:
        super().train(mode)
        self.segmenter.clip.eval()
        if self.segmenter.config.fixed_norms:
            for norm in self._norms():
                norm.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        targets, model = self._targets(batch["labels"]), self.segmenter
        logits = self._classifier().logits(model.features(batch["images"]))
        covers = [side * model.network.stride for side in logits.shape[-2:]]
        scores = upsample(logits, targets.shape[-2:], covers=covers)
        if self._whole is None:
            return {"labels": cross_entropy(scores, targets, ignore=self._ignore)}
        total = functional.cross_entropy(scores, targets, ignore_index=self._ignore, reduction="sum")
        return {"labels": total / (self._whole.to(total) * len(targets)).clamp(min=1)}

    def _norms(self) -> list[nn.Module]:
        return [each for each in self.segmenter.network.backbone.modules() if isinstance(each, nn.BatchNorm2d)]

    @torch.no_grad()
    def _targets(self, labels: Tensor) -> Tensor:
        """Places among the seen classes [B, H, W]."""
        self._check(labels)
        table = torch.full((self._ignore + 2,), self._ignore, device=labels.device)
        table[self._seen] = torch.arange(len(self._seen), device=labels.device)
        targets = table[torch.where(labels == UNLABELLED, self._ignore + 1, labels)]
        self._labelled = self._labelled.to(labels.device) + (targets != self._ignore).sum()
        self._pixels += labels.numel()
        return targets

    def _classifier(self) -> TextClassifier:
        model = self.segmenter
        device = next(model.network.parameters()).device
        if self._words is None or self._words[0] != device:
            self._words = device, model.embed_text(self._asked, Prompts.open(self.settings.prompts)).trained
        return self._words[1]

    def _check(self, labels: Tensor) -> None:
        known = torch.unique(labels[(labels != UNLABELLED) & (labels != self._ignore)]).tolist()
        if known and not 0 <= known[0] <= known[-1] < len(self._names):
            wrong = known[-1] if known[-1] >= len(self._names) else known[0]
            raise DataError(f"a label map holds {wrong} and there are {len(self._names)} classes; check words and data")
        if told := sorted(set(known) - set(self._seen)):
            raise DataError(
                f"pixels are labelled {self._names[told[0]]!r}, which is said to be unseen; let the data suppress or "
                "hide that class"
            )


RANDOM = "random"
MODEL_TYPE = "lexiseg_zsseg_fcn"
CLIP_FOLDER = "clip"


def load(variant: Variant) -> ZsSegFcn:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    if variant.weights is not None:
        return _read(find(variant.weights), config)
    if config.clip == RANDOM:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _fresh(config, Clip.random(TINY_VIT))
    return _fresh(config, Clip.load(config.clip, allow_pickle=config.allow_pickle))


def save(segmenter: ZsSegFcn, folder: str | os.PathLike[str]) -> None:
    """The network, and the CLIP in a folder of its own. Raises `OutputError`."""
    folder, network = Path(folder), segmenter.network
    content = {
        "model_type": MODEL_TYPE,
        "clip": segmenter.config.clip,
        "dimension": network.dimension,
        "source_config": getattr(network.backbone, "config", None),
    }
    tensors = portable(network.state_dict())
    files.write_bytes(folder / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")
    segmenter.clip.save(folder / CLIP_FOLDER)


def _fresh(config: Config, clip: Clip) -> ZsSegFcn:
    segmenter = ZsSegFcn(clip, _own(config))
    if config.start_from is not None:
        usual = config.start_from == "usual"
        segmenter.network.load_pretrained(None if usual else config.start_from, allow_pickle=config.allow_pickle)
    return segmenter.eval()


def _own(config: Config) -> Config:
    """How the parts were made and read says nothing about the folder that they may be saved in."""
    return replace(config, start_from=None, allow_pickle=False)


def _read(place: Path, config: Config) -> ZsSegFcn:
    folder = place.parent if place.is_file() else place
    content, tensors = read_json(folder / "config.json"), read_folder(folder)
    if content.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{folder} does not hold a zsseg_fcn; give a folder that its training saved")
    if config.clip != content["clip"]:
        raise SettingError(
            f"the network of {folder} lies beside the words of {content['clip']}, not of {config.clip}; leave clip out"
        )
    segmenter = ZsSegFcn(Clip.load(folder / CLIP_FOLDER), _own(config), source_config=content["source_config"])
    fit(segmenter.network, tensors, source=folder)
    return segmenter.eval()


_WINDOWS: dict[str, Any] = {"blend": "logits", "prompts": "a sculpture of a {}."}
_LARGE = Inference(short_side=640, long_side=2560, window=224, stride=75, **_WINDOWS)
# the embedded CLIP has hardly read of sculptures
_SMALL = Inference(long_side=256, window=128, stride=43, blend="logits", prompts="single")


def _to_be_trained(backbone: str, about: str) -> Variant:
    weights = Weights("none", f"ZSSeg's FCN on {about}", "train it (lexiseg list recipes)")
    config = Config(replace(_RESNET101, backbone=backbone))
    return Variant(config, weights, _LARGE, f"an FCN on {about} beside CLIP ViT-B/16; to be trained")


VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(
        Config(StudentShape("mini", "tiny"), fixed_norms=False, clip=RANDOM),
        None,
        Inference(short_side=64, **_WINDOWS),
        "random weights, for tests",
    ),
    "small": Variant(
        Config(
            StudentShape("transformers", "clip:asset:mini-clip", output_stride=8),
            start_from="usual",
            network_statistics="clip",
            clip="asset:mini-clip",
        ),
        Weights("none", "a small FCN", "train it (lexiseg train zsseg_fcn --mini)"),
        _SMALL,
        "the embedded CLIP, trained at every place, beside itself; to be trained",
    ),
    "rn101": _to_be_trained("rn101", "ResNet-101"),
    "rn50": _to_be_trained("rn50", "ResNet-50"),
    "custom": Variant(Config(), None, _LARGE, "any network and CLIP; to be trained, or branches=clip"),
}

# steps of 160 pixels, from half of 640 on, are our reading of "320 to 1120"
_SHARED: dict[str, Any] = {
    "window": 224,
    "stride": 75,
    "scales": (1.0,),
    "flip": False,
    "prompts": "a sculpture of a {}.",
    "antialias": True,
}

PRESETS = presets(
    Config,
    besides=("network", "start_from", "network_statistics", "clip", "branches", "allow_pickle"),
    shared=_SHARED,
    paper={"clip_scale": 100.0},
    released={
        "clip_vectors": "image",
        "upsampled": "features",
        "clip_scale": 100.0,
        "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        "flip": True,
    },
)
