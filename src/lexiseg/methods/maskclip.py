"""Reads the labels that CLIP already has, at every place.

CLIP reads them once per image; this is MaskCLIP.

Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022.

CLIP pools its image with one attention layer, whose result is a weighted sum of F(v_i), one for each place i (Eq. 3-4).
Each F(v_i) therefore lies where the text vectors lie, so the sum is left out and each place is compared with the words.
Nothing is trained; two refinements use what else the layer knows: key smoothing lets places with like keys agree
(Eq. 5), prompt denoising removes the classes that are likely nowhere in the image (end of the paper's section 3.3).

Where the paper and the authors' code disagree, `Config` and `Inference` choose (§: docs/papers/maskclip.md); the
presets "paper", "released" and "lexiseg" hold one column each.

    setting                  paper (its text)     released (the code)                 lexiseg (the default)
    last_block               value + residual     value + residual + last FFN  §2.3   as released: CLIP less one thing
    activation, epsilon      CLIP unchanged       exact GELU, 1e-6  §2.3              as the weights were trained
    position_embedding       not said             none in a ResNet's pool  §2.4       as released
    logit_scale              not said             100, and 1 in the result  §2.6      the weights' own (100 in OpenAI's)
    key_smoothing_form       cosine of two keys   normalised over places, not over    as in the paper
                                                  channels; ViT: after F  §2.7
    key_smoothing_threshold  none                 1: only cells below it change       none
    prompt_denoising         what if all fail?    then the first class wins  §2.8     then none is removed, always
    statistics               not said             ImageNet's  §2.2                    CLIP's
    size                     512x512              short side 512, any multiple  §2.2  the variant's, in whole patches

Not reproduced: text vectors in half precision (§2.9), 32 heads in the ResNet baseline whatever the tower (§2.5), a
position table left as it is where only its number of cells fits (§2.3).

Letters: B images, C classes, Q words, D embedding, L cells, W channels of the tower, K of the keys, h w grid.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_lite import ClipLite
from lexiseg.encoders.clip_resnet import ClipResNet
from lexiseg.encoders.clip_shape import TINY_RESNET, TINY_VIT, ClipShape
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.errors import SettingError, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.pixels import Statistics
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

__all__ = ["PRESETS", "VARIANTS", "Config", "MaskClip", "MaskClipEmbedding", "load", "save", "traits"]

LastBlock = Literal["value+residual+ffn", "value+residual", "value", "attention"]
Form = Literal["paper", "released"]


@dataclass(frozen=True)
class Config:
    """The docstring of this file says which of these differ between paper, released code and the defaults.

    last_block: what is left of the last attention layer. "attention" leaves it whole: CLIP's own dense output, the
        baseline rows of Table 1. A ResNet's pool has no residual or FFN, so there the other three are the same.
    activation: in the image tower; "as_trained" is what its weights say (QuickGELU in OpenAI's).
    layer_norm_eps: in the image tower; None is what its weights say (1e-5 in OpenAI's).
    position_embedding: whether that of a ResNet's pool is added, stretched to the grid. A ViT's always is.
    logit_scale: cosines times this have the posterior as their softmax; None is what the weights learned.
    output_scale: cosines times this are the result; None is `logit_scale`. Changes no label.
    key_smoothing: sum the posteriors over all cells, weighted by how alike the keys are.
    key_smoothing_threshold: posterior, 0-1; cells whose best class reaches it are left alone. None: all are smoothed.
    prompt_denoising: remove the classes whose posterior reaches `prompt_denoising_threshold` (0-1) nowhere.
    statistics: what pictures are normalised with, "clip", "imagenet", or mean and standard deviation of RGB in 0-1.
    architecture: the tower of random weights where a variant has none of its own, for tests.
    tokenizer: a folder, or OpenAI's merges file, for weights that bring none (OpenAI's files).
    allow_pickle: read weights that only come as a pickle, from a source you trust.

    Both refinements work on classes, after the words of each have voted, and on the whole image. The background of a
    vocabulary is never removed. Where nothing reaches the threshold nothing is removed: the released code removes every
    class then, so that the first one takes the image, which no setting brings back.
    """

    last_block: LastBlock = "value+residual+ffn"
    activation: Literal["as_trained", "gelu", "quick_gelu"] = "as_trained"
    layer_norm_eps: float | None = None
    position_embedding: Literal["none", "interpolate"] = "none"
    logit_scale: float | None = None
    output_scale: float | None = None
    key_smoothing: bool = False
    key_smoothing_form: Form = "paper"
    key_smoothing_threshold: float | None = None
    prompt_denoising: bool = False
    prompt_denoising_threshold: float = 0.5
    statistics: Statistics = "clip"
    architecture: Literal["of_weights", "tiny", "tiny-rn"] = "of_weights"
    tokenizer: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        pixels.check(self.statistics)
        for name in ("layer_norm_eps", "logit_scale", "output_scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SettingError(f"{name} is {value}; give a number above 0")
        for name in ("key_smoothing_threshold", "prompt_denoising_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise SettingError(f"{name} is {value}; give a posterior between 0 and 1")


def traits(config: Config) -> Traits:
    """Both refinements compare all cells of an image."""
    return Traits(
        whole_image=config.key_smoothing or config.prompt_denoising,
        classify_settings=(
            "logit_scale",
            "output_scale",
            "key_smoothing_threshold",
            "prompt_denoising",
            "prompt_denoising_threshold",
        ),
    )


@dataclass(frozen=True, eq=False)
class MaskClipEmbedding(DenseEmbedding):
    """keys: of the last attention layer [B, K, h, w]; K = 0 without key smoothing, which alone reads them."""

    grid_fields: ClassVar[tuple[str, ...]] = ("features", "keys")

    keys: Tensor


class MaskClip(nn.Module, Segmenter[MaskClipEmbedding, TextClassifier]):
    """Cells of CLIP's image tower, compared with the words."""

    def __init__(self, clip: Clip, config: Config) -> None:
        super().__init__()
        self.clip, self.config = clip, config
        if isinstance(clip.vision, ClipVit):
            activation = None if config.activation == "as_trained" else config.activation
            clip.vision.use(activation=activation, norm_eps=config.layer_norm_eps)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return self.clip.patch

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> TextClassifier:
        weight = self.clip.embed_words(vocabulary.queries, prompts, cache=cache)
        scale = self.config.logit_scale
        return TextClassifier.of(vocabulary, weight, float(self.clip.logit_scale) if scale is None else scale)

    def embed_image(self, images: Tensor) -> MaskClipEmbedding:
        """The grid covers the image, padded with the mean colour at the right and bottom to whole patches (ViT)."""
        vision = self.clip.vision
        images = pixels.normalise(images, self.config.statistics, pixels.dtype_of(vision))
        if isinstance(vision, ClipVit):
            return embed_vit(vision, images, self.config)
        return embed_resnet(vision, images, self.config)

    def classify(self, embedding: MaskClipEmbedding, classifier: TextClassifier) -> DenseLogits:
        config = self.config
        logits = classifier.logits(embedding.features)
        if config.prompt_denoising:
            logits = denoise(logits, classifier, config)
        if config.key_smoothing:
            logits = smooth(logits, embedding.keys, config)
        elif config.output_scale is not None:
            logits = logits * (config.output_scale / classifier.scale)
        return DenseLogits(logits, classifier.background)


def embed_vit(vision: ClipVit, images: Tensor, config: Config) -> MaskClipEmbedding:
    """§2.3. Without attention no cell sees another one in the last block, nor the class token, which is left out."""
    tokens, grid = vision.tokens(images)  # [B, 1 + L, W]
    block, cells = vision.last_block, tokens[:, 1:]
    if config.last_block == "attention":
        outer = block(tokens, None)[:, 1:]
    else:
        outer = vision.values(
            tokens, residual=config.last_block != "value", ffn=config.last_block == "value+residual+ffn"
        )
    keys = cells[..., :0]
    if config.key_smoothing:
        keys = block.self_attn.k_proj(block.layer_norm1(cells))
        if config.key_smoothing_form == "released":
            keys = block.self_attn.out_proj(keys)
    return MaskClipEmbedding(_as_map(vision.project(outer), grid), _as_map(keys, grid))


def embed_resnet(vision: ClipResNet | ClipLite, images: Tensor, config: Config) -> MaskClipEmbedding:
    """§2.4, and §2.5 for "attention", where every cell is a query and not only their mean."""
    pool, trunk = vision.attnpool, vision.trunk(images)  # [B, W, h, w]
    tokens = pool.tokens(trunk, positions=config.position_embedding == "interpolate")  # [B, 1 + L, W]
    cells, grid = tokens[:, 1:], (trunk.shape[-2], trunk.shape[-1])
    if config.last_block == "attention":
        features = pool.attend(tokens, tokens)[:, 1:]
    else:
        features = pool.c_proj(pool.v_proj(cells))  # F(v_i), Eq. 3-4
    keys = pool.k_proj(cells) if config.key_smoothing else cells[..., :0]
    return MaskClipEmbedding(_as_map(features, grid), _as_map(keys, grid))


REMOVED = -100.0  # the cosine of a class that prompt denoising took out, as released: its posterior is exactly 0


def denoise(logits: Tensor, classifier: TextClassifier, config: Config) -> Tensor:
    """Prompt denoising (paper, end of section 3.3; §2.8): classes that are likely at no cell are removed from all."""
    best = logits.softmax(dim=1).amax(dim=(2, 3))  # [B, C]
    kept = best >= config.prompt_denoising_threshold
    kept = kept | ~kept.any(dim=1, keepdim=True)  # where nothing is likely, nothing is a distractor
    if classifier.background:
        kept[:, -1] = True  # "none of the classes" is what is left when classes go
    return logits.where(kept[:, :, None, None], REMOVED * classifier.scale)


FLOOR = 1e-6  # posterior; its logarithm is as far down as an unlikely class of CLIP's, and can be interpolated


def smooth(logits: Tensor, keys: Tensor, config: Config) -> Tensor:
    """Key smoothing (Eq. 5; §2.7), where the posterior of cell i becomes the sum over j of A_ij times that of cell j.

    A, the likeness of keys, is a product of two thin matrices, so it is never formed: memory grows with L, not L².
    "paper" returns the logarithm of the sums, negative ones at zero, scaled to add up to one over the classes; a cell
    that no other supports keeps its own posterior.
    "released" returns the sums themselves: their argmax is the released label, their softmax is not a posterior.
    """
    released = config.key_smoothing_form == "released"
    posterior = logits.softmax(dim=1).flatten(2)  # [B, C, L]
    keys = functional.normalize(at_least_float32(keys).flatten(2), dim=2 if released else 1)  # [B, K, L]
    smoothed = posterior @ keys.mT @ keys
    if not released:
        smoothed = smoothed.clamp(min=0) + FLOOR * posterior
        smoothed = smoothed / smoothed.sum(dim=1, keepdim=True)
    if config.key_smoothing_threshold is not None:
        sure = posterior.amax(dim=1, keepdim=True) >= config.key_smoothing_threshold
        smoothed = torch.where(sure, posterior, smoothed)
    return (smoothed if released else smoothed.clamp(min=FLOOR).log()).reshape(logits.shape)


def load(variant: Variant) -> MaskClip:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config = variant.config
    if variant.weights is None:
        clip = _random(config)
    else:
        clip = Clip.load(variant.weights, tokenizer=config.tokenizer, allow_pickle=config.allow_pickle)
    # how these weights were read says nothing about the folder that they may be saved in
    config = replace(config, tokenizer=None, allow_pickle=False)
    return MaskClip(clip, config).eval().requires_grad_(False)


def save(segmenter: MaskClip, folder: str | os.PathLike[str]) -> None:
    """The towers and the tokenizer: for a ViT what transformers reads too."""
    segmenter.clip.save(folder)


def _random(config: Config) -> Clip:
    shapes = {"tiny": TINY_VIT, "tiny-rn": TINY_RESNET}
    if config.architecture not in shapes:
        raise WeightsError("this variant of maskclip has no weights of its own; name some with weights=")
    return Clip.random(shapes[config.architecture])


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, L, *] -> [B, *, h, w]"""
    return tokens.mT.reshape(tokens.shape[0], -1, *grid)


SHA256 = {  # clip.md §1.1; they only come as OpenAI's file, since transformers has no CLIP ResNet
    "RN50.pt": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101.pt": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4.pt": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16.pt": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64.pt": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
}


def _inference(multiple: int) -> Inference:
    return Inference(short_side=512, long_side=2048, multiple=multiple, prompts="maskclip85")


def _tiny(architecture: Literal["tiny", "tiny-rn"]) -> Variant:
    inference = Inference(short_side=64, prompts="single")
    return Variant(Config(architecture=architecture), None, inference, "random weights, for tests")


def _vit(name: str, about: str, tower: tuple[int, int, int], text_width: int = 512, image_size: int = 224) -> Variant:
    """tower: patch, width, layers. D is the text tower's width."""
    patch, width, layers = tower
    shape = ClipShape(text_width, image_size, width, layers, patch, text_width, 12)
    return Variant(Config(), Weights("hub", f"openai/clip-vit-{name}", shape=shape), _inference(patch), about)


def _resnet(file: str, about: str, shape: ClipShape) -> Variant:
    about = f"OpenAI's CLIP {about}; needs weights=PATH of {file}"
    where = "get it from the list of files in github.com/openai/CLIP"
    weights = Weights("by_hand", file, where, SHA256[file], shape=shape)
    return Variant(Config(), weights, _inference(32), about)


VARIANTS: Mapping[str, Variant] = {
    "mini": Variant(
        Config(),
        Weights("asset", "mini-clip-lite"),
        Inference(short_side=352, multiple=32, prompts="single"),
        "the embedded model: small, has seen ImageNet",
    ),
    "mini-vit": Variant(
        Config(),
        Weights("asset", "mini-clip"),
        # objects as large as in training; docs/log.md says how the prompts were picked, and how they should be
        Inference(long_side=256, multiple=8, prompts="vild14"),
        "a small embedded ViT, for methods that read patch tokens; knows about 800 words",
    ),
    "tiny": _tiny("tiny"),
    "tiny-rn": _tiny("tiny-rn"),
    # shapes: clip.md §1.1
    "vit-b32": _vit("base-patch32", "OpenAI's CLIP ViT-B/32, 605 MB", (32, 768, 12)),
    "vit-b16": _vit("base-patch16", "OpenAI's CLIP ViT-B/16, 599 MB: the paper's", (16, 768, 12)),
    "vit-l14": _vit("large-patch14", "OpenAI's CLIP ViT-L/14, 1.7 GB", (14, 1024, 24), 768),
    "vit-l14-336": _vit("large-patch14-336", "OpenAI's CLIP ViT-L/14 at 336 pixels, 1.7 GB", (14, 1024, 24), 768, 336),
    "rn50": _resnet("RN50.pt", "ResNet-50, 244 MB: the paper's", ClipShape(1024, 224, 64, (3, 4, 6, 3), None, 512, 12)),
    "rn101": _resnet("RN101.pt", "ResNet-101, 278 MB", ClipShape(512, 224, 64, (3, 4, 23, 3), None, 512, 12)),
    "rn50x4": _resnet("RN50x4.pt", "ResNet-50x4, 402 MB", ClipShape(640, 288, 80, (4, 6, 10, 6), None, 640, 12)),
    "rn50x16": _resnet("RN50x16.pt", "ResNet-50x16, 630 MB", ClipShape(768, 384, 96, (6, 8, 18, 8), None, 768, 12)),
    "rn50x64": _resnet(
        "RN50x64.pt", "ResNet-50x64, 1.3 GB", ClipShape(1024, 448, 128, (3, 15, 36, 10), None, 1024, 12)
    ),
    "custom": Variant(
        Config(), None, _inference(16), "any CLIP: weights= is a hub id, a folder or one of OpenAI's files"
    ),
}

PRESETS = presets(
    Config,
    besides=("architecture", "tokenizer", "allow_pickle"),
    shared={"size": None, "antialias": True},
    paper={"last_block": "value+residual", "size": (512, 512), "prompts": "maskclip85"},
    released={
        "activation": "gelu",
        "layer_norm_eps": 1e-6,
        "logit_scale": 100.0,
        "output_scale": 1.0,
        "key_smoothing_form": "released",
        "key_smoothing_threshold": 1.0,
        "statistics": "imagenet",
        "short_side": 512,  # Context: 520 for the long side, which its benchmark says
        "long_side": 2048,
        "multiple": 1,
        "antialias": False,
        "prompts": "maskclip85",
    },
)
