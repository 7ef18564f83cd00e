"""Gathers a CLIP's patches around learned centres: SegCLIP.

The regions are then named as pictures are.

Luo, Bao, Wu, He and Li, "SegCLIP: Patch Aggregation with Learnable Centers for Open-Vocabulary Semantic Segmentation",
ICML 2023.

A module between two layers of CLIP's image tower assigns every patch to one of a few centres (Eq. 1-3), and the layers
after it see these regions in place of patches. Captions teach it, since the picture's vector is the largest value of
its regions in each channel. Two losses help: hidden patches are painted again from the regions of the others (Eq. 4),
and the patches of a superpixel should go to one region (Eq. 5-6).

Where the paper and the authors' code disagree, `Config` and `Training` choose (§: docs/papers/segclip.md); the presets
"paper" and "released" hold one column each of what concerns inference.

    setting             paper (its text)             released (the code)                      lexiseg (the default)
    group_form          Eq. 1-3: no norms, no        centres attend to each other; norms      as released, since the
                        projections; keys: patches   and head-wise projections  §3.2          weights have it
    legacy_scramble     not said                     keys of the whole batch, misread  §3.3   own keys
    activation          GELU in Eq. 4                QuickGELU  §3.5                          as released
    reconstructed       the whole picture            hidden patches alone  §3.5               hidden patches
    normalise           a sum over patches           half of it, over L x G  §3.6             as released
    product_threshold   0.75 on VOC                  0.80 on VOC  §3.8                        0.65, as both on COCO
    rule                S = M S                      a product of two softmaxes  §3.8         as released
    frozen embeddings   trained at 4e-6              frozen  §3.7                             recipes/segclip.py

The released code reads the patch grid, and whether it is to reconstruct, from the number of tokens, so that it fails at
other sizes than 224 and 448 pixels. Here the grid is passed on, and any size goes. The class token is thrown away
before the first layer (§3.1), so it is not trained. What reconstructs is part of the objective, not of the saved model.

Letters: B images, G centres, L patches, C classes, Q words, D embedding, W width of the tower, h w grid.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders import attention, segclip_layout
from lexiseg.encoders.checkpoints import read_file
from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.clip_shape import TINY_VIT, ClipShape
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.segclip_layout import SegClipShape
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.tokenizer import Tokenizer, pad
from lexiseg.encoders.weights import find, fit, read_folder
from lexiseg.errors import DataError, SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.grouping import Form, Grouped, SemanticGrouping
from lexiseg.layers.mae import MaeDecoder, RegionReconstruction, hide, patchify
from lexiseg.layers.pixels import Statistics
from lexiseg.layers.region_rule import ProductRule, region_logits
from lexiseg.losses.contrastive import info_nce
from lexiseg.losses.superpixel_loss import Normalise, PatchIds, patch_ids, superpixel_loss
from lexiseg.proposals._region_embedding import RegionEmbedding, RegionMaps
from lexiseg.segmenter import (
    DenseLogits,
    Inference,
    MaskScores,
    Segmenter,
    TextClassifier,
    Traits,
    Variant,
    at_least_float32,
)
from lexiseg.settings import presets, require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = ["PRESETS", "VARIANTS", "Config", "Objective", "SegClip", "Training", "load", "save", "traits"]

LARGEST_SCALE = 100.0  # as in CLIP


@dataclass(frozen=True)
class Config:
    """The docstring of this file says which of these differ between paper, released code and the defaults.

    centres: how many regions a picture has at most.
    cross_layers: in which the centres see the patches, before they are compared.
    plug_layer: the group module comes after so many layers of the image tower; None is 10 of 12, in that proportion.
    group_form: "paper" has its equations alone.
    temperature: of the assignment in training.
    rule: how regions become labels. "product" is the authors', per window; "assignment" is the paper's S = M S, which
        gives each patch the cosines of its region and has no background.
    product_threshold: regions whose best score is below it are background, 0-1. Other sets want other ones.
    top_classes: how many classes a window may show; None for all.
    adaptive_threshold: the threshold is at most the best score of a window, as released.
    region_maps: "soft" interpolates shares of regions between patches, "hard" the region that each patch has.
    statistics: what pictures are normalised with, "clip", "imagenet", or mean and standard deviation of RGB in 0-1.
    architecture: "of_weights" has everything from its weights; "from_clip" puts a fresh group module, drawn by torch's
        global generator, into a CLIP, to be trained; the others are random ones, where a variant has no weights.
    tokenizer: a folder, hub id or OpenAI's merges file, for weights that bring none and for "vit-b16".
    allow_pickle: read weights that only come as a pickle, from a source you trust. SegCLIP's own do.
    """

    centres: int = 8
    cross_layers: int = 2
    plug_layer: int | None = None
    group_form: Form = "released"
    temperature: float = 0.9
    rule: Literal["product", "assignment"] = "product"
    product_threshold: float = 0.65
    top_classes: int | None = 5
    adaptive_threshold: bool = True
    region_maps: RegionMaps = "soft"
    statistics: Statistics = "clip"
    architecture: Literal["of_weights", "from_clip", "tiny", "small", "small-16", "small-32", "vit-b16"] = "of_weights"
    tokenizer: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        pixels.check(self.statistics)
        require(self.centres >= 1, "centres", "1 or more", self.centres)
        require(self.cross_layers >= 0, "cross_layers", "0 or more", self.cross_layers)
        require(self.plug_layer is None or self.plug_layer >= 0, "plug_layer", "0 or more", self.plug_layer)
        require(0 < self.temperature < math.inf, "temperature", "above 0", self.temperature)
        self.scoring()

    def scoring(self) -> ProductRule:
        return ProductRule(self.product_threshold, self.top_classes, self.adaptive_threshold)


def traits(config: Config) -> Traits:
    """Which classes a window shows is decided for the whole of it, and with it what is background."""
    return Traits(
        whole_image=True,
        background="own" if config.rule == "product" else "none",
        regions=True,
        classify_settings=("product_threshold", "top_classes", "adaptive_threshold"),
    )


class SegClip(nn.Module, Segmenter[RegionEmbedding, TextClassifier]):
    """A CLIP with a group module in its image tower."""

    def __init__(self, clip: Clip, grouping: SemanticGrouping, config: Config) -> None:
        super().__init__()
        self.clip, self.grouping, self.config = clip, grouping, config
        attention.use(clip.text_model)
        self.vision.model.embeddings.class_embedding.requires_grad_(False)  # it is not used

    @property
    def vision(self) -> ClipVit:
        vision = self.clip.vision
        assert isinstance(vision, ClipVit)
        return vision

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.clip.patch

    @property
    def plug_layer(self) -> int:
        return plugged_after(self.config, self.vision)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        return TextClassifier.of(vocabulary, weight, min(self.clip.logit_scale, LARGEST_SCALE))

    def embed_image(self, images: Tensor) -> RegionEmbedding:
        """The cells span the image, padded with the mean colour at the right and bottom to whole patches."""
        patches, grid = self.embed_patches(images)
        grouped = self.group(patches)
        regions = self.third_stage(grouped.regions)
        soft = grouped.soft.reshape(*grouped.soft.shape[:2], *grid)
        features, image = self.vision.project(regions), self.pool(regions)
        return RegionEmbedding(soft, features, image, self.patch, self.config.region_maps)

    def classify(self, embedding: RegionEmbedding, classifier: TextClassifier) -> DenseLogits | MaskScores:
        config = self.config
        if config.rule == "product":
            return embedding.masks(config.scoring().scores(embedding.features, embedding.image, classifier))
        logits = region_logits(embedding.features, classifier)  # S of regions [B, G, C]
        of_cells = torch.einsum("bghw,bgc->bchw", embedding.hard().to(logits), logits)  # S = M S
        return DenseLogits(of_cells, classifier.background, embedding.covers)

    def embed_patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """RGB bytes as the patch tokens that enter the first layer [B, L, W], and their grid (h, w)."""
        normalised = pixels.normalise(images, self.config.statistics, pixels.dtype_of(self.vision))
        tokens, grid = self.vision.embed(normalised)
        return tokens[:, 1:], grid

    def group(self, patches: Tensor, *, noise: Tensor | None = None, scrambled: bool = False) -> Grouped:
        """First and second stage: any patch tokens [B, L, W] as regions; see `SemanticGrouping.forward`."""
        for block in self.vision.model.encoder.layers[: self.plug_layer]:
            patches = block(patches, None)
        grouped: Grouped = self.grouping(patches, noise=noise, scrambled=scrambled)
        return grouped

    def third_stage(self, regions: Tensor) -> Tensor:
        """CLIP's last layers on regions [B, G, W]."""
        for block in self.vision.model.encoder.layers[self.plug_layer :]:
            regions = block(regions, None)
        return regions

    def pool(self, regions: Tensor) -> Tensor:
        """Regions after the third stage as one vector of each image [B, D], not of unit length."""
        return self.vision.project(regions.amax(dim=1))

    def text_features(self, sentences: Sequence[str], length: int) -> Tensor:
        """One vector for each sentence [N, D], of which the first `length` tokens count; not of unit length."""
        rows = self.clip.tokenizer(sentences)
        rows = [row if len(row) <= length else [*row[: length - 1], row[-1]] for row in rows]
        return self.clip.text_features(pad(rows).to(self.clip.text_projection.weight.device))


def plugged_after(config: Config, vision: ClipVit) -> int:
    """The number of layers of the first stage; raises `SettingError` where the tower has fewer."""
    layers = len(vision.model.encoder.layers)
    if config.plug_layer is None:
        return max(0, layers - max(1, round(layers / 6)))
    if config.plug_layer > layers:
        raise SettingError(f"plug_layer is {config.plug_layer} and the image tower has {layers} layers; give fewer")
    return config.plug_layer


@dataclass(frozen=True)
class Training:
    """reconstruction, superpixels: weights of the two losses beside the contrastive one; 0 leaves a loss out.

    text_length: tokens of a sentence that count.
    mask_ratio: the share of patches that is hidden, 0-1.
    reconstructed: which patches have a loss.
    activation: after the layer that gives regions back to patches.
    decoder_layers, decoder_heads, decoder_width: of what paints; None is half of the tower's width.
    normalise, stop_gradient, ids: see `losses.superpixel_loss`.
    legacy_scramble: train on misread keys, as the published weights were; see `layers.grouping.scramble`. Then images
        of a batch are not independent, so that gradient caching and accumulation change the result.
    """

    reconstruction: float = 1.0
    superpixels: float = 1.0
    text_length: int = 32
    mask_ratio: float = 0.75
    reconstructed: Literal["hidden", "all"] = "hidden"
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_width: int | None = None
    normalise: Normalise = "released"
    stop_gradient: bool = False
    ids: PatchIds = "mean"
    legacy_scramble: bool = False

    def __post_init__(self) -> None:
        for name in ("reconstruction", "superpixels"):
            require(0 <= getattr(self, name) < math.inf, name, "0 or more", getattr(self, name))
        require(0 < self.mask_ratio < 1, "mask_ratio", "a share between 0 and 1", self.mask_ratio)
        require(self.text_length >= 2, "text_length", "2 or more", self.text_length)

    def build(self, segmenter: SegClip, *, teacher: object = None) -> Objective:
        """Raises `SettingError` for a teacher, and for a decoder whose width its heads do not divide."""
        if teacher is not None:
            raise SettingError("segclip learns from captions and superpixels; leave the teacher out")
        return Objective(segmenter, self)


class Objective(nn.Module):
    """Images against their texts; hidden patches against pixels; regions against superpixels (§3.7)."""

    def __init__(self, segmenter: SegClip, settings: Training) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, settings
        self.reconstruction = _reconstruction(segmenter, settings) if settings.reconstruction else None
        self._used: list[Tensor] = []  # shares of patches in each region [B, G], of this step's pieces

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return self.loss(*self.embed(batch))

    def embed(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Unit vectors of images and texts [B, D], then the other losses that are wanted, of each image alone [B]."""
        segmenter, settings = self.segmenter, self.settings
        patches, grid = segmenter.embed_patches(batch["images"])
        grouped = segmenter.group(patches, scrambled=settings.legacy_scramble)
        self._used.append(grouped.hard.detach().mean(dim=2))
        image = segmenter.pool(segmenter.third_stage(grouped.regions))
        text = segmenter.text_features(batch["texts"], settings.text_length)
        rows = [functional.normalize(at_least_float32(each), dim=1) for each in (image, text)]
        if self.reconstruction is not None:
            wanted = patchify(pixels.normalise(batch["images"], segmenter.config.statistics), segmenter.patch)
            rows.append(self.of_hidden(patches, grid, wanted))
        if settings.superpixels:
            rows.append(self._of_superpixels(grouped.hard, batch))
        return tuple(rows)

    def loss(self, images: Tensor, texts: Tensor, *others: Tensor) -> dict[str, Tensor]:
        scale = self.segmenter.clip.log_scale.exp().clamp(max=LARGEST_SCALE)
        losses = {"contrast": info_nce(images, texts, scale)}
        for name, each in zip(self._others(), others, strict=True):
            losses[name] = getattr(self.settings, name) * each.mean()
        return losses

    def of_hidden(
        self,
        patches: Tensor,
        grid: tuple[int, int],
        wanted: Tensor,
        *,
        order: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The squared error of what is painted of each image [B]: the mean over channels, then over patches (§3.5).

        patches: that enter the first layer [B, L, W]. wanted: normalised pixels [B, L, 3 P P].
        order: noise that decides which patches are hidden [B, L], drawn where it is not given; without training it is
        always the same. noise: of the assignment, see `SemanticGrouping.forward`.
        """
        assert self.reconstruction is not None
        settings = self.settings
        kept = hide(self._draw(patches) if order is None else order, settings.mask_ratio)
        grouped = self.segmenter.group(kept.of(patches), noise=noise, scrambled=settings.legacy_scramble)
        painted = self.reconstruction(grouped.regions, grouped.hard, kept, grid)
        error = (at_least_float32(painted) - wanted).square().mean(dim=2)  # [B, L]
        if settings.reconstructed == "all":
            return error.mean(dim=1)
        hidden = kept.hidden().to(error)
        return (error * hidden).sum(dim=1) / hidden.sum(dim=1).clamp(min=1)

    def before_step(self, step: int) -> None:
        self._used.clear()

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        self.segmenter.clip.log_scale.clamp_(max=math.log(LARGEST_SCALE))

    def report(self) -> dict[str, float]:
        """How the centres are used, 0-1: 1 is all of them alike, and near 0 they have collapsed.

        usage_entropy: over all patches of the step's images; image_entropy: in each image, then the mean.
        centres_used: the share of centres that an image uses at all.
        """
        used = torch.cat(self._used)  # [B, G]
        most = math.log(used.shape[1]) if used.shape[1] > 1 else 1.0
        return {
            "usage_entropy": float(torch.special.entr(used.mean(dim=0)).sum()) / most,
            "image_entropy": float(torch.special.entr(used).sum(dim=1).mean()) / most,
            "centres_used": float((used > 0).float().mean()),
        }

    def inference(self, inference: Inference) -> Inference:
        """Windows are as large as the pictures that the tower's positions are for."""
        side = self.segmenter.clip.image_size
        return replace(inference, size=None, short_side=side, window=side, stride=side)

    def _draw(self, patches: Tensor) -> Tensor:
        if self.training:
            return torch.rand(patches.shape[:2], device=patches.device)
        same = torch.rand(patches.shape[1], generator=torch.Generator().manual_seed(0))
        return same.to(patches.device).expand(len(patches), -1)

    def _others(self) -> list[str]:
        return [name for name in ("reconstruction", "superpixels") if getattr(self.settings, name)]

    def _of_superpixels(self, hard: Tensor, batch: Mapping[str, Any]) -> Tensor:
        if "superpixels" not in batch:
            raise DataError(
                "this batch has no superpixels, which SegCLIP's third loss compares regions with; give the data some "
                "(data.superpixels, or data.maps), or set objective.superpixels=0"
            )
        settings = self.settings
        ids = patch_ids(batch["superpixels"], self.segmenter.patch, settings.ids)
        return superpixel_loss(hard.mT, ids, normalise=settings.normalise, stop_gradient=settings.stop_gradient)


def _reconstruction(segmenter: SegClip, settings: Training) -> RegionReconstruction:
    """With blocks like those of the third stage, but not the same."""
    vision = segmenter.vision
    third = vision.model.encoder.layers[segmenter.plug_layer :]
    decoder = MaeDecoder(
        vision.width,
        vision.width // 2 if settings.decoder_width is None else settings.decoder_width,
        heads=settings.decoder_heads,
        layers=settings.decoder_layers,
        pixels=3 * vision.patch**2,
    )
    blocks = [type(block)(vision.model.config) for block in third]
    return RegionReconstruction(segmenter.config.centres, blocks, decoder, activation=settings.activation)


def load(variant: Variant) -> SegClip:
    """Raises `WeightsError` for weights that are missing or do not fit, and for a CLIP that was not trained to group.

    What a released checkpoint says of its group module comes before the config.
    """
    config: Config = variant.config
    own: dict[str, Tensor] = {}
    if variant.weights is None:
        clip = _random(config)
    else:
        clip, own, config = _read(variant.weights, config)
        if not own and config.architecture != "from_clip":
            raise WeightsError(
                f"{variant.weights} is a CLIP without SegCLIP's group module; train one from it (lexiseg train segclip "
                "--set weights=...), or give architecture=from_clip for a random one"
            )
    if not isinstance(clip.vision, ClipVit):
        raise WeightsError("this CLIP has a ResNet, whose cells are not tokens; give one with a ViT")
    first = plugged_after(config, clip.vision)
    if variant.weights is not None:
        variant.weights.check(SegClipShape(clip.shape, config.centres, config.cross_layers, first))
    grouping = _fresh(config, clip.vision)
    if own:
        fit(grouping, own, source=str(variant.weights))
    # how these weights were made and read says nothing about the folder that they may be saved in
    config = replace(config, architecture="of_weights", tokenizer=None, allow_pickle=False)
    return SegClip(clip, grouping, config).eval()


def save(segmenter: SegClip, folder: str | os.PathLike[str]) -> None:
    """The towers and the tokenizer, which transformers reads as a CLIP, and the group module in the same file."""
    own = {f"{GROUPING}{name}": tensor for name, tensor in segmenter.grouping.state_dict().items()}
    segmenter.clip.save(folder, beside=own)


GROUPING = "grouping."  # before the names of the group module's tensors


def _read(weights: Weights, config: Config) -> tuple[Clip, dict[str, Tensor], Config]:
    """The CLIP, the tensors of the group module where there is one, and the config with what the weights say of it."""
    source: Path = find(weights, allow_pickle=config.allow_pickle)
    if source.name == "model.safetensors":  # its config and tokenizer are beside it
        source = source.parent
    how: dict[str, Any] = {"tokenizer": config.tokenizer}
    tensors = (read_folder if source.is_dir() else read_file)(source, allow_pickle=config.allow_pickle)
    if segclip_layout.is_released(tensors):
        parts = segclip_layout.split(tensors, source)
        config = replace(config, centres=parts.centres, cross_layers=parts.cross_layers, plug_layer=parts.plug_layer)
        return Clip.of_openai(parts.clip, source, **how), parts.grouping, config
    own = {name.removeprefix(GROUPING): tensor for name, tensor in tensors.items() if name.startswith(GROUPING)}
    return Clip.load(weights, allow_pickle=config.allow_pickle, **how), own, config


def _fresh(config: Config, vision: ClipVit) -> SemanticGrouping:
    shape: dict[str, Any] = {"centres": config.centres, "layers": config.cross_layers, "form": config.group_form}
    with torch.random.fork_rng(devices=[], enabled=config.architecture == "tiny"):
        if config.architecture == "tiny":
            torch.manual_seed(0)
        heads = int(vision.model.config.num_attention_heads)
        return SemanticGrouping(vision.width, heads, temperature=config.temperature, **shape)


# the embedded CLIP's, for the miniature, and the same with larger patches
SMALL = ClipShape(256, 128, 256, 6, 8, 192, 3, context=32, vocabulary=4093, activation="gelu")
VIT_B16 = ClipShape(512, 224, 768, 12, 16, 512, 12)
SHAPES = {
    "tiny": TINY_VIT,
    "small": SMALL,
    "small-16": replace(SMALL, patch=16),
    "small-32": replace(SMALL, patch=32),
    "vit-b16": VIT_B16,
}


def _random(config: Config) -> Clip:
    if config.architecture not in SHAPES:
        raise WeightsError("this variant of segclip has no weights of its own; name some with weights=")
    shape = SHAPES[config.architecture]
    seed = 0 if config.architecture == "tiny" else int(torch.randint(2**31, ()))
    if config.tokenizer is None:
        words = Tokenizer.from_folder(find(EMBEDDED), min(shape.context, 32))
        shape = replace(shape, context=words.context, vocabulary=words.end + 1)
        return Clip.random(shape, seed=seed)
    words = Tokenizer.from_folder(find(config.tokenizer, weights_too=False), shape.context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Clip(shape.config(), words).eval()


_USUAL = Inference(short_side=224, long_side=2048, window=224, stride=224, blend="logits", prompts="single")
_TINY = Inference(short_side=32, window=32, stride=32, blend="logits", prompts="single")

VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(Config(architecture="tiny"), None, _TINY, "random weights, for tests"),
    "tiny-assignment": Variant(
        Config(architecture="tiny", rule="assignment"), None, _TINY, "random weights and the paper's text, for tests"
    ),
    "vit-b16": Variant(
        Config(architecture="vit-b16"),
        Weights(
            "by_hand",
            "SegCLIP's checkpoint",
            "get it by hand, from where github.com/ArrowLuo/SegCLIP says",
            pickled=True,
            shape=SegClipShape(VIT_B16, centres=8, cross_layers=2, plug_layer=10),
        ),
        _USUAL,
        "ViT-B/16, the paper's; needs weights=PATH of the authors' checkpoint",
    ),
    "custom": Variant(
        Config(),
        None,
        _USUAL,
        "weights of your own: weights= is a folder that a recipe trained, or a CLIP to start from",
    ),
}

_RELEASED: dict[str, Any] = {"short_side": 224, "long_side": 2048, "window": 224, "stride": 224, "blend": "logits"}
_RELEASED |= {"antialias": False, "prompts": "single", "product_threshold": 0.80}

PRESETS = presets(
    Config,
    besides=(
        "centres", "cross_layers", "plug_layer", "group_form", "temperature", "statistics", "architecture", "tokenizer",
        "allow_pickle",
    ),
    shared={"antialias": True},
    paper={**_RELEASED, "product_threshold": 0.75},
    released=_RELEASED,
)  # fmt: skip
