"""Groups patches in stages, taught by captions alone: GroupViT.

Xu, De Mello, Liu, Byeon, Breuel, Kautz and Wang, "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR
2022.

Learned group tokens travel with the patches. After some layers a grouping block assigns every patch to one of them and
merges those of a group into one token, and later layers see groups in place of patches (§5.1-5.2). The mean of the
last groups is the picture's vector, which captions and prompts of their nouns teach (§5.4). To segment, each pixel
takes the class of its group, by a product of two softmaxes that also decides what is background (§5.5).

The towers are transformers' own modules. What is returned is the inference that GroupViT was evaluated with, not the
`segmentation_logits` of transformers, which apply the logit scale twice, have no background and refuse 448 pixels
(§5.6). Where paper and released code disagree, `Config` chooses (§: docs/papers/groupvit.md); the presets "paper" and
"released" hold one column each.

    setting             paper                        released                      lexiseg (the default)
    region_maps         hard assignments  §5.5       soft ones, which do better    soft
    product_threshold   0.9 on VOC, 0.5 on Context   0.95 VOC and COCO, 0.35 Ctx   0.95
    antialias           not said                     OpenCV's bilinear, without    with
    logit scale         not said                     at most 100  §5.3             at most 100

The released code guesses the grid of patches from their number, which fails at some sizes; here it is passed on, and a
picture is padded to whole patches. Of the training the notes do not say how captions and prompts share a batch
normalisation (here they are one batch), nor where the published one-stage model groups (here after half of the layers).

Letters: B images, N sentences, K prompts of a caption, G groups, C classes, Q words, D embedding, W width, h w grid.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import OPENAI_TOKENIZER
from lexiseg.encoders.groupvit_towers import GroupVit, GroupVitShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import Tokenizer, pad
from lexiseg.encoders.weights import find
from lexiseg.errors import DataError, SettingError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.layers.region_rule import ProductRule
from lexiseg.layers.usage import usage
from lexiseg.losses.contrastive import info_nce, multi_label_nce
from lexiseg.proposals._region_embedding import RegionEmbedding, RegionMaps
from lexiseg.segmenter import Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant, at_least_float32
from lexiseg.settings import presets, require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["PRESETS", "VARIANTS", "Config", "GroupViT", "Objective", "Training", "load", "save", "traits"]

LARGEST_SCALE = 100.0  # §5.3
FIRST_SCALE = 1 / 0.07  # of the prompts' loss, as of the other
DECIDED = 30.0  # how much further apart the logits of random assignments are made, for tests


@dataclass(frozen=True)
class Config:
    """The docstring of this file says which of these differ between paper, released code and the defaults.

    product_threshold: regions whose best score is below it are background, 0-1. Data sets want different ones.
    top_classes: how many classes a window may show; None for all.
    adaptive_threshold: the threshold is at most the best score of a window, as released.
    region_maps: "soft" interpolates shares of groups between patches, "hard" the group that each patch has.
    statistics: what pictures are normalised with, "clip", "imagenet", or mean and standard deviation of RGB in 0-1.
    architecture: what is built where a variant has no weights, in the paper's size, a "small" one for the miniature, or
        a "tiny" one for tests; of one grouping block or two.
    tokenizer: a folder, hub id or OpenAI's merges file, for weights that bring none.
    allow_pickle: read weights that only come as a pickle, from a source you trust. The authors' own do.
    """

    product_threshold: float = 0.95
    top_classes: int | None = 5
    adaptive_threshold: bool = True
    region_maps: RegionMaps = "soft"
    statistics: Statistics = "imagenet"
    architecture: Literal["two-stage", "one-stage", "small", "small-one-stage", "tiny", "tiny-one-stage"] = "two-stage"
    tokenizer: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        pixels.check(self.statistics)
        self.rule()

    def rule(self) -> ProductRule:
        return ProductRule(self.product_threshold, self.top_classes, self.adaptive_threshold)


def traits(config: Config) -> Traits:
    """Which classes a window shows is decided for the whole of it, and with it what is background."""
    return Traits(
        whole_image=True,
        background="own",
        regions=True,
        classify_settings=("product_threshold", "top_classes", "adaptive_threshold"),
    )


class GroupViT(nn.Module, Segmenter[RegionEmbedding, TextClassifier]):
    """The groups of a picture, named as pictures are."""

    def __init__(self, towers: GroupVit, config: Config) -> None:
        super().__init__()
        self.towers, self.config = towers, config

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.towers.vision.patch

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.towers.text.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, min(self.towers.text.logit_scale, LARGEST_SCALE))

    def embed_image(self, images: Tensor) -> RegionEmbedding:
        """The cells span the image, padded with the mean colour at the right and bottom to whole patches."""
        image, groups = self.towers.image_features(self.normalised(images))
        soft = groups.shares(hard=self.config.region_maps == "hard")
        features = self.towers.vision.project(groups.tokens)
        return RegionEmbedding(soft, features, image, self.patch, self.config.region_maps)

    def classify(self, embedding: RegionEmbedding, classifier: TextClassifier) -> MaskScores:
        """The scores of regions (§5.5, 3-4), as linear masks: C x H x W of them never exists."""
        return embedding.masks(self.config.rule().scores(embedding.features, embedding.image, classifier))

    def normalised(self, images: Tensor) -> Tensor:
        return pixels.normalise(images, self.config.statistics, pixels.dtype_of(self.towers))

    def text_features(self, sentences: Sequence[str]) -> Tensor:
        """One vector for each sentence [N, D], not of unit length."""
        text = self.towers.text
        return text.text_features(pad(text.tokenizer(sentences)).to(text.log_scale.device))


@dataclass(frozen=True)
class Training:
    """multi_label: weight of the loss of prompts, whose data has `captions.prompts`; 0 leaves it out, as for RedCaps.
    drop_path: how often the last layer of the image tower skips a half of itself in training, 0-1; those before it do
        so less, in equal steps, and the first never (stochastic depth, §5.1).
    """

    multi_label: float = 1.0
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        require(0 <= self.multi_label < math.inf, "multi_label", "0 or more", self.multi_label)
        require(0 <= self.drop_path < 1, "drop_path", "a probability, 0 up to 1", self.drop_path)

    def build(self, segmenter: GroupViT, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher."""
        if teacher is not None:
            raise SettingError("groupvit learns from captions alone; leave the teacher out")
        return Objective(segmenter, self)


class Objective(nn.Module):
    """Images against their captions, and against prompts of the nouns and verbs in them (§5.4)."""

    def __init__(self, segmenter: GroupViT, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        self.prompt_scale: nn.Parameter | None = None  # the logarithm, as `text.log_scale`
        if settings.multi_label:
            self.prompt_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.accelerator.is_available():
            nn.SyncBatchNorm.convert_sync_batchnorm(segmenter.towers)  # type: ignore[no-untyped-call]
        _drop_paths(segmenter.towers.vision.layers, settings.drop_path)
        self._used: list[Tensor] = []  # shares of patches in each group [B, G], of this step's pieces

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.loss(*self.embed(batch))

    def embed(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Unit vectors of images and captions [B, D], then of prompts [B, K, D] where they are wanted."""
        segmenter = self.segmenter
        image, groups = segmenter.towers.image_features(segmenter.normalised(batch["images"]))
        self._used.append(groups.shares(hard=True).detach().mean(dim=(2, 3)))
        sentences = list(batch["texts"])
        if self.settings.multi_label:
            sentences += [prompt for each in _prompts(batch) for prompt in each]
        texts = functional.normalize(at_least_float32(segmenter.text_features(sentences)), dim=1)
        count = len(image)
        rows = (functional.normalize(at_least_float32(image), dim=1), texts[:count])
        return (*rows, texts[count:].view(count, -1, texts.shape[1])) if self.settings.multi_label else rows

    def loss(self, images: Tensor, texts: Tensor, prompts: Tensor | None = None) -> dict[str, Tensor]:
        losses = {"contrast": info_nce(images, texts, _scale(self.segmenter.towers.text.log_scale))}
        if prompts is not None:
            assert self.prompt_scale is not None, "there are prompts where the loss of prompts is wanted"
            several = multi_label_nce(images, prompts, _scale(self.prompt_scale))
            losses["multi_label"] = self.settings.multi_label * several
        return losses

    def before_step(self, step: int) -> None:
        self._used.clear()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        for scale in (self.segmenter.towers.text.log_scale, self.prompt_scale):
            if scale is not None:
                scale.clamp_(max=math.log(LARGEST_SCALE))

    def report(self) -> dict[str, float]:
        """How the step's images used the last groups, see `layers.usage`; by assignments without noise."""
        return usage(torch.cat(self._used))

    def inference(self, inference: Inference) -> Inference:
        """Windows are twice as large as training pictures, and overlap by half, as the released models' do."""
        side = self.segmenter.towers.shape.image_size
        return replace(inference, size=None, short_side=2 * side, window=2 * side, stride=side)


def _scale(logarithm: Tensor) -> Tensor:
    return logarithm.exp().clamp(max=LARGEST_SCALE)


def _prompts(batch: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    prompts: Sequence[Sequence[str]] | None = batch.get("prompts")
    if prompts is None:
        raise DataError(
            "this batch has no prompts, which GroupViT's second loss compares images with; give the data some "
            "(data.captions.prompts=3), or set objective.multi_label=0"
        )
    return prompts


def _drop_paths(layers: Sequence[Any], rate: float) -> None:
    """Lets both halves of layers be skipped in training, sample by sample: more often the later they come."""
    for place, layer in enumerate(layers):
        share = rate * place / max(1, len(layers) - 1)
        if share:
            for half in (layer.self_attn, layer.mlp):
                half.register_forward_hook(partial(_skip, share))


def _skip(share: float, module: nn.Module, _: Any, output: Any) -> Any:
    """0 in `share` of the samples, and the more in the others, so that the mean stays."""
    if not module.training:
        return output
    first: Tensor = output[0] if isinstance(output, tuple) else output
    kept = torch.rand(len(first), *[1] * (first.ndim - 1), device=first.device) >= share
    first = first * (kept / (1 - share)).to(first)
    return (first, *output[1:]) if isinstance(output, tuple) else first


def load(variant: Variant) -> GroupViT:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    if variant.weights is None:
        towers = _fresh(config)
    else:
        towers = GroupVit.load(variant.weights, tokenizer=config.tokenizer, allow_pickle=config.allow_pickle)
    # how these weights were read says nothing about the folder that they may be saved in
    return GroupViT(towers, replace(config, tokenizer=None, allow_pickle=False)).eval()


def save(segmenter: GroupViT, folder: str | os.PathLike[str]) -> None:
    """The towers and the tokenizer, as transformers reads them."""
    segmenter.towers.save(folder)


TWO_STAGE = GroupVitShape()
# the notes do not say how the published one-stage model is divided
ONE_STAGE = replace(TWO_STAGE, depths=(6, 6), group_tokens=(64,), groups=(8,))
# 64 patches of pictures of 128 pixels, for the miniature; the words are those of the embedded model's tokenizer
SMALL = GroupVitShape((3, 2, 1), (16, 8), (16, 8), 128, 16, 128, 128, 2, 128, 512, context=32, vocabulary=4093)
TINY = GroupVitShape((2, 1, 1), (6, 4), (6, 4), 32, 8, 64, 64, 2, 32, 64, context=32, vocabulary=4093)
SHAPES = {
    "two-stage": TWO_STAGE,
    "one-stage": ONE_STAGE,
    "small": SMALL,
    "small-one-stage": replace(SMALL, depths=(3, 3), group_tokens=(16,), groups=(8,)),
    "tiny": TINY,
    "tiny-one-stage": replace(TINY, depths=(2, 1), group_tokens=(6,), groups=(4,)),
}


def _fresh(config: Config) -> GroupVit:
    """Drawn by torch's global generator, but for tests, which want the same weights every time."""
    shape, words = SHAPES[config.architecture], None
    if config.architecture in ("two-stage", "one-stage"):
        place = find(config.tokenizer or OPENAI_TOKENIZER, weights_too=False)
        words = (Tokenizer.from_folder if place.is_dir() else Tokenizer.from_merges)(place, shape.context)
        shape = replace(shape, vocabulary=words.end + 1)
    if not config.architecture.startswith("tiny"):
        return GroupVit.random(shape, words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        towers = GroupVit.random(shape, words)
        for stage in towers.vision.model.encoder.stages[: len(shape.groups)]:
            # else every pixel would be in one group, and rounding would decide in which
            stage.group_token.data.normal_()
            stage.downsample.assign.q_proj.weight.data *= DECIDED
    return towers


_USUAL = Inference(short_side=448, long_side=2048, window=448, stride=224, blend="logits", prompts="single")
_TINY = Inference(short_side=64, window=64, stride=32, blend="logits", prompts="single")


def _published(name: str, data: str) -> Variant:
    weights = Weights("hub", f"nvidia/groupvit-gcc-{name}", shape=TWO_STAGE)
    return Variant(Config(), weights, _USUAL, f"trained on {data}; 55 M parameters, 220 MB")


VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(Config(product_threshold=0.08, architecture="tiny"), None, _TINY, "random weights, for tests"),
    "tiny-one-stage": Variant(
        Config(product_threshold=0.08, architecture="tiny-one-stage"),
        None,
        _TINY,
        "random weights and one grouping block, for tests",
    ),
    "cc-yfcc": _published("yfcc", "CC3M, CC12M and YFCC14M"),
    "cc-redcaps": _published("redcaps", "CC3M, CC12M and RedCaps12M"),
    "custom": Variant(
        Config(),
        None,
        _USUAL,
        "weights of your own: weights= is a folder that a recipe trained, a hub id, or the authors' checkpoint",
    ),
}

_RELEASED: dict[str, Any] = {"short_side": 448, "long_side": 2048, "window": 448, "stride": 224, "blend": "logits"}
_RELEASED |= {"antialias": False, "prompts": "single", "product_threshold": 0.95}

PRESETS = presets(
    Config,
    besides=("statistics", "architecture", "tokenizer", "allow_pickle"),
    shared={"antialias": True},
    paper={**_RELEASED, "product_threshold": 0.9, "region_maps": "hard"},
    released=_RELEASED,
)
