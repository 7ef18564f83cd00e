"""Segments by masks learned from clusters and captions: S-Seg.

Nobody drew or named a mask.

Lai, "Exploring Simple Open-Vocabulary Semantic Segmentation", arXiv 2401.12217 (2024), and CVPR 2025.

MaskFormer's N queries each give a mask and a feature. The masks learn to be the parts of a pseudo-mask, which K-means
makes of the features of a network that saw no masks, each part with the query that fits it best. The mean of the N
features is the picture's vector, and learns to be where its caption is. To segment, each feature is compared with the
words, and a pixel has the mean of what its masks show.

    masks       L_mask = dice + 20 focal, over matched pairs (Eq. 1); a query without a part loses nothing
    captions    L_I→T + L_T→I of the picture's unit vector and the text's, scaled by 1 / σ (Eq. 2-3)
    together    L_mask + L_contrastive (Eq. 4)
    segment     S_c(x) = sum over q of P(c | feature q) σ(mask q(x)); the label is the largest

**Unofficial.** The authors released no code and no weights, and their paper leaves some twenty things open. Each is a
setting of `Config`, `Training` or the recipe's data, with "[?]" in its description; docs/papers/s_seg.md (to which §
refers) lists them with the reasons for the defaults. No score of ours is the authors'.

S-Seg+ is a student of it: a recipe of the method `student` (recipes/s_seg_plus.py).

Letters: B images, N queries, T parts, K clusters, S decoder layers, C classes, W width of a query, D embedding,
h w grid, H W pixels.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import files
from lexiseg.encoders import efficientnet_lite
from lexiseg.encoders.clip import EMBEDDED, OPENAI_TOKENIZER
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.text_transformer import TextShape, TextTransformer, open_tokenizer
from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.encoders.weights import find, fit, portable, read_folder, read_json
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
from lexiseg.layers.projector import Norm, Projector
from lexiseg.losses.contrastive import info_nce
from lexiseg.losses.matching import Costs
from lexiseg.losses.pseudo_masks import part_losses
from lexiseg.networks.maskformer import MaskFormerNetwork, MaskFormerShape
from lexiseg.proposals import kmeans
from lexiseg.proposals._mask_embedding import MaskEmbedding
from lexiseg.proposals._proposals import CERTAIN
from lexiseg.segmenter import Inference, MaskScores, Segmenter, TextClassifier, Traits, Variant, at_least_float32
from lexiseg.settings import presets, require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["PRESETS", "VARIANTS", "Config", "Objective", "SSeg", "Training", "load", "save", "traits"]

_MASKS, _TEXT = MaskFormerShape("swin-s", fixed_norms=False, queries=64), TextShape()


@dataclass(frozen=True)
class Config:
    """[?] marks what the paper does not say.

    masks: MaskFormer's architecture; Swin-S, 64 queries and 6 decoder layers are the paper's, the rest MaskFormer's
        own [?].
    start_from: weights of MaskFormer's backbone before training: None is random ones, since the paper goes "without
        large-scale pretraining" [?]; "usual" are ImageNet's, else a hub id, folder or file.
    text: the text tower; GroupViT's, whose numbers the paper gives (heads and activation [?]).
    tokenizer: a hub id, folder or merges file; CLIP's has the paper's 49,408 tokens.
    dimension: D of the common space.
    projection_hidden, projection_norm: inside the two projections, which are "2-layer MLPs". As GroupViT's [?].
    image_vector: "mean_first" takes the mean of the features and projects it, as the paper's pseudocode does it;
        "projected_first" projects each feature, as its text has it [?].
    temperature: σ before training [?].
    own_background: a pixel is background where no class passes this; None leaves it to `background_threshold`. The
        paper thresholds "the maximum probability" and does not say at what [?].
    own_background_of: the "posterior", S_c over the sum of σ(mask), 0-1; or the "sum" S_c itself, which may be as
        large as N [?].
    statistics: what pictures are normalised with, "clip", "imagenet", or mean and standard deviation of RGB in
        0-1 [?].
    """

    masks: MaskFormerShape = _MASKS
    start_from: str | None = None
    text: TextShape = _TEXT
    tokenizer: str = OPENAI_TOKENIZER
    dimension: int = 256
    projection_hidden: int = 4096
    projection_norm: Norm = "batch"
    image_vector: Literal["mean_first", "projected_first"] = "mean_first"
    temperature: float = 0.07
    own_background: float | None = None
    own_background_of: Literal["posterior", "sum"] = "posterior"
    statistics: Statistics = "imagenet"

    def __post_init__(self) -> None:
        pixels.check(self.statistics)
        for name in ("dimension", "projection_hidden"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        require(0 < self.temperature < math.inf, "temperature", "a number above 0", self.temperature)
        most, given = 1.0 if self.own_background_of == "posterior" else float(self.masks.queries), self.own_background
        require(given is None or 0 <= given <= most, "own_background", f"from 0 to {most:g}", given)


def traits(config: Config) -> Traits:
    """The threshold looks at one pixel at a time, so a window is not asked about as a whole."""
    return Traits(
        background="none" if config.own_background is None else "own",
        regions=True,
        classify_settings=("own_background", "own_background_of"),
    )


class SSeg(nn.Module, Segmenter[MaskEmbedding, TextClassifier]):
    """Masks whose features lie beside the words."""

    def __init__(self, config: Config, network: MaskFormerNetwork, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.network = config, network
        shape, more = config.text, (config.projection_hidden, config.dimension, config.projection_norm)
        self.image_projection = Projector(network.shape.width, *more)
        self.text = TextTransformer(
            shape.config(tokenizer.end + 1),
            Projector(shape.width, *more),
            tokenizer,
            temperature=config.temperature,
        )

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.network.stride

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.text.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, self.text.logit_scale)

    def embed_image(self, images: Tensor) -> MaskEmbedding:
        """The grid covers the image, padded with the mean colour at the right and bottom to multiples of 32."""
        found = self.network(self.normalise(images))
        features = self.image_projection(found.queries[-1])
        everything = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        return MaskEmbedding(found.masks[-1], everything, features, found.covers)

    def classify(self, embedding: MaskEmbedding, classifier: TextClassifier) -> MaskScores:
        found = embedding.named(classifier)
        return found if self.config.own_background is None else _with_background(found, self.config)

    def normalise(self, images: Tensor) -> Tensor:
        return pixels.normalise(images, self.config.statistics, pixels.dtype_of(self.network))

    def image_vectors(self, queries: Tensor) -> Tensor:
        """What the queries of a picture [B, N, W] say together, as unit vectors [B, D] (§4.4)."""
        if self.config.image_vector == "mean_first":
            vectors = self.image_projection(queries.mean(dim=1))
        else:
            vectors = self.image_projection(queries).mean(dim=1)
        return functional.normalize(at_least_float32(vectors), dim=1)


def _with_background(found: MaskScores, config: Config) -> MaskScores:
    """One channel more, which is the largest where no class passes the threshold; words of the background add to it.

    "posterior": every mask gives the background the threshold, so that it has the threshold times the sum of masks.
    "sum": one more mask, which is everywhere, gives it the threshold.
    """
    masks, scores, threshold = found.masks, found.scores, config.own_background or 0.0
    if not found.background:
        scores = functional.pad(scores, (0, 1))
    if config.own_background_of == "posterior":
        scores = torch.cat([scores[..., :-1], scores[..., -1:] + threshold], dim=-1)
    else:
        batch, _, channels = scores.shape
        everywhere = masks.new_full((batch, 1, *masks.shape[-2:]), CERTAIN)
        rest = scores.new_zeros(batch, 1, channels)
        rest[..., -1] = threshold
        masks, scores = torch.cat([masks, everywhere], dim=1), torch.cat([scores, rest], dim=1)
    return replace(found, masks=masks, scores=scores, background=True)


STORED = "pseudo_masks"  # the batch's field that holds maps made before: `data.maps`
_GENERATOR = kmeans.Config(features="facebook/dino-vits8")


@dataclass(frozen=True)
class Training:
    """[?] marks what the paper does not say.

    pseudo_masks: what makes them of the training pictures, as these were cropped; DINO ViT-S/8 and K = 8 are the
        paper's. Which of its features, their length, the start, the iterations and clusters without cells [?] are
        settings of it.
    masks_from: make them in each step of the "pictures"; or read maps of the "data", in its field `pseudo_masks`, where
        255 is no part.
    resize: from the grid of clusters to pixels, by the "nearest" one or the strongest of "bilinear" shares [?].
    dice_weight, focal_weight: inside of L_mask, and of a pair's cost.
    mask_weight, contrast_weight: of the two losses. With mask_weight=0 there are no pseudo-masks.
    total: the "sum" of both losses (Eq. 4), or their "mean" as in the pseudocode: less for AdamW than for clipping.
    directions: the "sum" of image to text and text to image, or their "mean" as in CLIP.
    deep: earlier decoder layers learn masks too, as MaskFormer's [?].
    losses_at: the size that masks are compared at, all "pixels" as in MaskFormer, or the "grid" of the masks, cheaper
        and coarser [?]. Pairs are always found on the grid.
    largest_scale: what 1 / σ may be at most, as CLIP's [?]; None is anything.
    """

    pseudo_masks: kmeans.Config = _GENERATOR
    masks_from: Literal["pictures", "data"] = "pictures"
    resize: Literal["nearest", "bilinear"] = "nearest"
    dice_weight: float = 1.0
    focal_weight: float = 20.0
    mask_weight: float = 1.0
    contrast_weight: float = 1.0
    total: Literal["sum", "mean"] = "sum"
    directions: Literal["sum", "mean"] = "sum"
    deep: bool = True
    losses_at: Literal["pixels", "grid"] = "pixels"
    largest_scale: float | None = 100.0

    def __post_init__(self) -> None:
        for name in ("dice_weight", "focal_weight", "mask_weight", "contrast_weight"):
            require(0 <= getattr(self, name) < math.inf, name, "0 or more", getattr(self, name))
        weighed = self.dice_weight + self.focal_weight > 0 or not self.mask_weight
        require(weighed, "dice_weight", "above 0 where focal_weight is 0", self.dice_weight)
        require(self.largest_scale is None or self.largest_scale > 0, "largest_scale", "above 0", self.largest_scale)

    def build(self, segmenter: SSeg, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher, and as `proposals.kmeans.load` does."""
        if teacher is not None:
            raise SettingError("s_seg learns from captions and pseudo-masks; leave the teacher out")
        made = self.mask_weight > 0 and self.masks_from == "pictures"
        return Objective(segmenter, self, kmeans.load(self.pseudo_masks) if made else None)


class Objective(nn.Module):
    """Batches of pictures and captions in; the contrastive loss and the losses of masks out.

    generator: makes pseudo-masks, and learns nothing.
    """

    unsaved = ("generator.*",)

    def __init__(self, segmenter: SSeg, settings: Training, generator: kmeans.KMeans | None) -> None:
        super().__init__()
        self.segmenter, self.settings, self.generator = segmenter, settings, generator
        if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.accelerator.is_available():
            for projection in (segmenter.image_projection, segmenter.text.text_projection):
                nn.SyncBatchNorm.convert_sync_batchnorm(projection)  # type: ignore[no-untyped-call]
        self._made: list[tuple[Tensor, Tensor]] = []  # the parts of this step's pictures
        self._overlap: list[Tensor] = []
        self._count: list[Tensor] = []

    def before_step(self, step: int) -> None:
        for kept in (self._made, self._overlap, self._count):
            kept.clear()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        if self.settings.largest_scale is not None:
            self.segmenter.text.log_scale.clamp_(max=math.log(self.settings.largest_scale))

    def report(self) -> dict[str, float]:
        """The logit scale; and of the step's parts how many a picture has, and the mean dice coefficient of their
        masks, 0 where there are none.
        """
        parts = torch.cat(self._count).sum() if self._count else torch.zeros(())
        overlap = torch.cat(self._overlap).sum() / parts.clamp(min=1) if self._overlap else torch.zeros(())
        pictures = max(1, sum(map(len, self._count)))
        return {
            "scale": self.segmenter.text.logit_scale,
            "parts": float(parts) / pictures,
            "overlap": float(overlap),
        }

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        if self.generator is not None:
            self.generator.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.loss(*self.embed(batch))

    def embed(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Unit vectors of images and texts [B, D]; then, with masks, what these lose in each image and their number."""
        model, settings = self.segmenter, self.settings
        found = model.network(model.normalise(batch["images"]), deep=settings.deep and settings.mask_weight > 0)
        vectors = model.image_vectors(found.queries[-1]), model.text.vectors(list(batch["texts"]))
        if not settings.mask_weight:
            return vectors
        costs = Costs(0.0, settings.focal_weight, settings.dice_weight)  # no class counts in a pair
        losses = part_losses(
            found.masks,
            self._parts(batch),
            found.covers,
            count=settings.pseudo_masks.k if self.generator is not None else MOST_STORED,
            costs=costs,
            on_grid=settings.losses_at == "grid",
        )
        self._overlap.append(losses.overlap)
        self._count.append(losses.parts.detach())
        return (*vectors, losses.focal, losses.dice, losses.parts.to(losses.dice.dtype))

    def loss(self, images: Tensor, texts: Tensor, *of_masks: Tensor) -> dict[str, Tensor]:
        settings = self.settings
        share = 0.5 if settings.total == "mean" else 1.0
        both = 2.0 if settings.directions == "sum" else 1.0  # `info_nce` is the mean of both
        contrast = both * info_nce(images, texts, self.segmenter.text.log_scale.exp())
        losses = {"contrast": share * settings.contrast_weight * contrast}
        if of_masks:
            focal, dice, parts = of_masks
            weight = share * settings.mask_weight / parts.sum().clamp(min=1)  # MaskFormer's, over all processes
            losses["focal"] = weight * settings.focal_weight * focal.sum()
            losses["dice"] = weight * settings.dice_weight * dice.sum()
        return losses

    @torch.no_grad()
    def _parts(self, batch: Mapping[str, Any]) -> Tensor:
        """The part of each pixel [B, H, W]. Gradient caching asks twice about the same pictures."""
        images: Tensor = batch["images"]
        if self.generator is None:
            return _stored(batch)
        for known, parts in self._made:
            if known is images:
                return parts
        parts = spread(self.generator.labels(images), images.shape[-2:], self.settings)
        self._made.append((images, parts))
        return parts


MOST_STORED, UNKNOWN = 64, 255  # parts of a stored map, as many as the paper's queries; and where it has none


def spread(labels: Tensor, size: Sequence[int], settings: Training) -> Tensor:
    """The clusters of a grid [B, h, w] as parts of pixels [B, H, W]."""
    height, width = size
    if settings.resize == "nearest":
        return functional.interpolate(labels[:, None].float(), (height, width), mode="nearest-exact")[:, 0].long()
    shares = functional.one_hot(labels, settings.pseudo_masks.k).movedim(-1, 1).float()
    return functional.interpolate(shares, (height, width), mode="bilinear", align_corners=False).argmax(dim=1)


def _stored(batch: Mapping[str, Any]) -> Tensor:
    parts: Tensor | None = batch.get(STORED)
    if parts is None:
        raise DataError(
            f"this batch has no {STORED}; give the data a folder of maps (data.maps with a {STORED}), or set "
            "objective.masks_from=pictures"
        )
    parts = parts.long()
    most = int(parts.masked_fill(parts == UNKNOWN, 0).max())
    if most >= MOST_STORED:
        raise DataError(
            f"a stored pseudo-mask has a part of number {most}, and there may be {MOST_STORED}, numbered from 0; make "
            "them with fewer parts"
        )
    return parts


MODEL_TYPE = "lexiseg_s_seg"


def load(variant: Variant) -> SSeg:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    if variant.weights is None:
        if config.masks.backbone != _TINY:
            return _fresh(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _fresh(config)
    place = find(variant.weights)
    folder = place.parent if place.is_file() else place
    content, tensors = read_json(folder / "config.json"), read_folder(folder)
    if content.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{folder} does not hold an s_seg; give a folder that its training saved")
    network = MaskFormerNetwork(config.masks, source_config=content["source_config"])
    segmenter = SSeg(replace(config, start_from=None), network, Tokenizer.from_folder(folder, config.text.context))
    fit(segmenter, tensors, source=folder)
    return segmenter.eval()


def save(segmenter: SSeg, folder: str | os.PathLike[str]) -> None:
    """All weights, and the tokenizer. Raises `OutputError`."""
    folder = Path(folder)
    content = {"model_type": MODEL_TYPE, "source_config": segmenter.network.source_config}
    tensors = portable(segmenter.state_dict())
    files.write_bytes(folder / "model.safetensors", to_safetensors(tensors, metadata={"format": "pt"}))
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")
    segmenter.text.tokenizer.save(folder)


def _fresh(config: Config) -> SSeg:
    network = MaskFormerNetwork(config.masks)
    if config.start_from is not None:
        network.fill_backbone(None if config.start_from == "usual" else config.start_from)
    # how the backbone began says nothing about the folder that the model may be saved in
    tokenizer = open_tokenizer(config.tokenizer, config.text.context)
    return SSeg(replace(config, start_from=None), network, tokenizer).eval()


# GroupViT's, with which the paper says it is consistent [?]: it may mean squares of 448 pixels (the preset "square")
_LARGE = Inference(short_side=448, long_side=2048, window=448, stride=224, blend="logits", prompts="single")
_TINY = "tiny"


def _to_be_trained(backbone: str, about: str) -> Variant:
    weights = Weights("none", f"S-Seg with {about}", "its authors released nothing, so train it (lexiseg list recipes)")
    config = Config(masks=replace(_MASKS, backbone=backbone))
    return Variant(config, weights, _LARGE, f"MaskFormer on {about}, learned from captions; to be trained")


_SMALL = Config(
    masks=MaskFormerShape("lite2", fixed_norms=False, queries=32, width=128, layers=3, heads=4, ffn=512),
    start_from="usual",
    text=TextShape(128, 4, 32),
    tokenizer=EMBEDDED,
    dimension=128,
    projection_hidden=512,
    statistics=(efficientnet_lite.MEAN, efficientnet_lite.STD),
)

VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(
        Config(
            masks=MaskFormerShape(_TINY, fixed_norms=False, queries=8, width=64, layers=2, heads=4, ffn=64),
            text=TextShape(64, 2, 32),
            tokenizer=EMBEDDED,
            dimension=32,
            projection_hidden=64,
        ),
        None,
        Inference(short_side=64, window=64, stride=32, blend="logits", prompts="single"),
        "random weights, for tests",
    ),
    "small": Variant(
        _SMALL,
        Weights("none", "a small S-Seg", "train it (lexiseg train s_seg --mini)"),
        Inference(long_side=256, blend="logits", prompts="vild14"),
        "MaskFormer on EfficientNet-Lite2, learned from captions; to be trained",
    ),
    "swin-s": _to_be_trained("swin-s", "Swin-S: the paper's"),
    "swin-t": _to_be_trained("swin-t", "Swin-T"),
    "rn50": _to_be_trained("rn50", "ResNet-50"),
    "custom": Variant(Config(), None, _LARGE, "any backbone, text tower and tokenizer; to be trained"),
}

_SLIDING: dict[str, Any] = {"size": None, "short_side": 448, "long_side": 2048, "window": 448, "stride": 224}
_SLIDING |= {"prompts": "single", "antialias": True}

PRESETS = presets(
    Config,
    besides=(
        "masks",
        "start_from",
        "text",
        "tokenizer",
        "dimension",
        "projection_hidden",
        "projection_norm",
        "image_vector",
        "temperature",
        "statistics",
    ),
    shared=_SLIDING,
    paper={"antialias": False},
    square={"size": (448, 448), "short_side": None, "long_side": None, "window": None, "stride": None},
)
