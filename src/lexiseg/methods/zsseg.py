"""Proposes masks and lets CLIP name each: ZSSeg.

The masks come first, without words.

Xu, Zhang, Wei, Lin, Cao, Hu and Bai, "A Simple Baseline for Open-Vocabulary Semantic Segmentation with Pre-trained
Vision-Language Model", ECCV 2022.

CLIP was trained on whole pictures, so it is asked about pictures: each of N masks becomes a crop whose other pixels are
filled, and CLIP's image vector of it is compared with the words (Eq. 1). MaskFormer proposes the masks; its query
vectors, trained on the seen classes to lie where the words do, are a second classifier. The two are averaged
geometrically, the query branch leading for seen classes and CLIP for unseen ones; a pixel then has the mean of the
classes of its masks, weighted by how much it belongs to each (Eq. 2).

    query branch     p = softmax over the classes and "no object" of 100 cos(query, word)
    region branch    r = softmax over the classes of the scaled cos(crop, word)
    seen class       p^w r^(1-w)          unseen class   p^(1-w) r^w         w: `ensemble_weight`

Masks may come from elsewhere too: a proposer of `proposals/` (the paper's Table 5), or the user's own.

Where the paper and the authors' code disagree, `Config` and `Training` choose (§: docs/papers/zsseg.md); the presets
"paper" and "released" hold one column each.

    setting           paper (its text)          released (the code)                     lexiseg (the default)
    region_scale      divided by 100 (a slip)   100  §4.4                               the CLIP's own (100 in OpenAI's)
    mask_threshold    0.5                       0.3 to 0.5, per data set  §4.5          0.5
    ensemble_weight   not said                  0.4 to 0.8, per data set  §4.5          0.7
    invalid_regions   not said                  CLIP says 1 of every class  §4.5        the query branch alone says it
    crop_size         CLIP's input              224 whatever the CLIP  §4.4             CLIP's input
    crop_antialias    not said                  no low-pass filter  §4.4                a low-pass filter
    unlabelled        not said                  negatives of every mask  §4.3           ignored

A vocabulary that does not say which classes were seen has unseen ones only, as released; background words are unseen.

Letters: B images, N masks, C classes, Q words, D embedding, S decoder layers, W width of a query, h w grid, H W pixels.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from lexiseg import files
from lexiseg import proposals as shelf
from lexiseg.encoders import efficientnet_lite
from lexiseg.encoders.checkpoints import read_file
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import TINY_VIT
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.weights import find, fit, portable, read_folder, read_json
from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.layers import pixels
from lexiseg.layers.crops import CropRule, crops
from lexiseg.layers.pixels import Statistics
from lexiseg.losses.mask_teaching import Training
from lexiseg.losses.pseudo_labels import upsample
from lexiseg.networks.maskformer import MaskFormerNetwork, MaskFormerShape
from lexiseg.networks.maskformer_names import PREFIXES, of_zsseg
from lexiseg.proposals._proposals import CERTAIN, Proposals, Proposer
from lexiseg.segmenter import (
    Embedding,
    Inference,
    MaskScores,
    Segmenter,
    TextClassifier,
    Traits,
    Variant,
)
from lexiseg.settings import presets, require
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Weights

__all__ = [
    "PRESETS",
    "VARIANTS",
    "Config",
    "Training",
    "Words",
    "ZsSeg",
    "ZsSegEmbedding",
    "load",
    "save",
    "traits",
]

MASKFORMER, OUTSIDE = "maskformer", "none"
_MASKS = MaskFormerShape()


@dataclass(frozen=True)
class Config:
    """The docstring of this file says which of these differ between paper, released code and the defaults.

    proposer: where masks come from: "maskformer", "none" (the user gives them), or a file of `proposals/` with its
        defaults.
    masks: MaskFormer's architecture.
    start_from: weights of MaskFormer's backbone before training: "usual" are ImageNet's, else a hub id, folder or file;
        None is random ones.
    clip: the CLIP (hub id, folder, "asset:NAME"; "random" for tests). Another one than a model was saved with can
        still classify regions.
    head_width: of the hidden layer between a query and its vector beside the words.
    branches: which of the two classifiers are asked.
    ensemble_weight: w, 0-1, of the leading branch: the queries for seen classes, the regions for unseen ones.
    unseen_weight: w for unseen classes, where it is another.
    query_scale, region_scale: cosines times this are the branches' logits; None is what the CLIP's weights learned.
    invalid_regions: of a mask with no pixel above `mask_threshold` CLIP says "one" of every class; or the "queries"
        alone say what it is; or it is "drop"ped. Without a query branch it is always dropped.
    mask_threshold: what a mask must pass to be cropped, 0-1.
    crop_size: pixels; None is what the CLIP was trained with.
    crop_margin, crop_fill, crop_aspect, crop_antialias: see `layers.crops.CropRule`.
    learned_prompts: which branches read the learned prompts that the model holds, in place of those they are given.
    learned: the file of learned prompts to put into the model.
    mask_statistics: what pictures are normalised with for MaskFormer, "clip", "imagenet", or mean and standard
        deviation of RGB in 0-1. Crops have the CLIP's own.
    allow_pickle: read weights that only come as a pickle, from a source you trust. ZSSeg's own do.
    """

    proposer: str = "maskformer"
    masks: MaskFormerShape = _MASKS
    start_from: str | None = None
    clip: str = "openai/clip-vit-base-patch16"
    head_width: int = 1024
    branches: Literal["both", "queries", "regions"] = "both"
    ensemble_weight: float = 0.7
    unseen_weight: float | None = None
    query_scale: float | None = 100.0
    region_scale: float | None = None
    invalid_regions: Literal["one", "queries", "drop"] = "queries"
    mask_threshold: float = 0.5
    crop_size: int | None = None
    crop_margin: float = 0.0
    crop_fill: Literal["mean", "zero", "picture"] = "mean"
    crop_aspect: Literal["stretch", "keep"] = "stretch"
    crop_antialias: bool = True
    learned_prompts: Literal["none", "regions", "both"] = "none"
    learned: str | None = None
    mask_statistics: Statistics = "imagenet"
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        pixels.check(self.mask_statistics)
        if self.proposer not in (known := [MASKFORMER, OUTSIDE, *_shelf()]):
            raise UnknownName("proposer", self.proposer, known)
        for name in ("ensemble_weight", "unseen_weight"):
            value = getattr(self, name)
            require(value is None or 0 <= value <= 1, name, "a weight, 0 to 1", value)
        for name in ("query_scale", "region_scale"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, name, "a number above 0", value)
        require(0 < self.mask_threshold < 1, "mask_threshold", "above 0 and below 1", self.mask_threshold)
        require(self.head_width >= 1, "head_width", "1 or more", self.head_width)
        self.crop_rule(self.crop_size or 1)
        if self.branches == "queries" and self.proposer != MASKFORMER:
            raise SettingError(f"proposer={self.proposer} has no queries; set branches=regions, or proposer=maskformer")

    def crop_rule(self, side: int) -> CropRule:
        return CropRule(side, self.crop_margin, self.crop_fill, self.crop_aspect, self.crop_antialias)


def _shelf() -> list[str]:
    """The files of `proposals/`, each a way to make masks."""
    return sorted(each.name for each in pkgutil.iter_modules(shelf.__path__) if not each.name.startswith("_"))


def traits(config: Config) -> Traits:
    """Seen classes are those whose word vectors the queries were trained with."""
    return Traits(
        reads_seen=True,
        regions=True,
        accepts_masks=True,
        classify_settings=("ensemble_weight", "unseen_weight", "query_scale", "region_scale", "invalid_regions"),
    )


@dataclass(frozen=True, eq=False)
class ZsSegEmbedding(Embedding):
    """masks: logits [B, N, h, w]. valid: which of them there are, bool [B, N].

    queries: the query branch's vectors [B, N, D], or D = 0 where there are none.
    regions: the crops' vectors [B, N, D], or D = 0 where CLIP is not asked.
    cropped: the masks that have a crop, bool [B, N].
    covers: pixels that the masks' grid spans; None is exactly the input.
    """

    per_image: ClassVar[tuple[str, ...]] = ("masks", "valid", "queries", "regions", "cropped")

    masks: Tensor
    valid: Tensor
    queries: Tensor
    regions: Tensor
    cropped: Tensor
    covers: tuple[int, int] | None

    @property
    def proposals(self) -> Proposals:
        return Proposals(self.masks, self.valid, self.covers)


@dataclass(frozen=True, eq=False)
class Words:
    """A classifier for each branch, and which channels were not seen in training, bool [C] or [C + 1]."""

    queries: TextClassifier
    regions: TextClassifier
    unseen: Tensor


class ZsSeg(nn.Module, Segmenter[ZsSegEmbedding, Words]):
    """Masks, and two classifiers of them.

    network: MaskFormer; None where masks come from elsewhere. proposer: what else makes them.
    head: a query -> its vector beside the words; no_object: the word vector of nothing.
    learned: prompts that the branches read which `config.learned_prompts` names.
    dimension: D of the query branch, where it is not the CLIP's.
    """

    context: Tensor | None

    def __init__(
        self,
        clip: Clip,
        config: Config,
        *,
        network: MaskFormerNetwork | None = None,
        proposer: Proposer | None = None,
        learned: Prompts | None = None,
        dimension: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.clip: Any = clip.requires_grad_(False)
        self.network, self.proposer = network, proposer
        if learned is None and config.learned_prompts != "none":
            raise SettingError(
                f"learned_prompts={config.learned_prompts} needs learned prompts, and this model has none; "
                "give their file with learned=FILE.safetensors"
            )
        self._learned = learned
        self.register_buffer("context", None if learned is None else learned.context)
        self.head: nn.Module | None = None
        if network is not None:
            dimension, hidden = dimension or clip.embed_dim, config.head_width
            self.head = nn.Sequential(nn.Linear(network.shape.width, hidden), nn.ReLU(), nn.Linear(hidden, dimension))
            self.no_object = nn.Parameter(torch.randn(1, dimension) * clip.shape.text_width**-0.5)

    @property
    def traits(self) -> Traits:
        return traits(self.config)

    @property
    def patch(self) -> int:
        return int(self.clip.patch) if self.network is None else self.network.stride

    @property
    def learned(self) -> Prompts:
        """The learned prompts that it holds."""
        assert self._learned is not None, "there are some where they are asked for"
        return replace(self._learned, context=self.context)

    @torch.no_grad()
    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> Words:
        learned = self.config.learned_prompts
        of_queries = self.learned if learned == "both" else prompts
        of_regions = self.learned if learned != "none" else prompts
        weight = self.clip.embed_words(vocabulary.queries, of_queries, cache=cache)
        queries = TextClassifier.of(vocabulary, weight, self._scale(self.config.query_scale))
        if of_regions != of_queries:
            weight = self.clip.embed_words(vocabulary.queries, of_regions, cache=cache)
        regions = TextClassifier.of(vocabulary, weight, self._scale(self.config.region_scale))
        seen = vocabulary.seen or (False,) * len(vocabulary)
        unseen = [not each for each in seen] + [True] * (vocabulary.channels - len(vocabulary))
        return Words(queries, regions, torch.tensor(unseen, device=weight.device))

    def query_words(self, vocabulary: Vocabulary, prompts: str) -> TextClassifier:
        """The classifier that queries are trained with."""
        return self.embed_text(vocabulary, Prompts.open(prompts)).queries

    def embed_image(self, images: Tensor, proposals: Proposals | None = None) -> ZsSegEmbedding:
        """proposals: masks to name in place of the method's own.

        Raises `SettingError` where there are no masks.
        """
        queries = None
        if proposals is None and self.network is not None:
            found = self.network(self.normalise(images))
            masks = found.masks[-1]
            everything = torch.ones(masks.shape[:2], dtype=torch.bool, device=masks.device)
            proposals = Proposals(masks, everything, found.covers)
            queries = self.query_vectors(found.queries[-1])
        elif proposals is None:
            if self.proposer is None:
                raise SettingError("zsseg was asked to make no masks (proposer=none); give masks, or name a proposer")
            proposals = self.proposer.propose(images)
        asked = queries is None or self.config.branches != "queries"
        regions, cropped = self._regions(images, proposals, asked=asked)
        if queries is None:
            queries = regions.new_zeros(*proposals.valid.shape, 0)
        return ZsSegEmbedding(proposals.masks, proposals.valid, queries, regions, cropped, proposals.covers)

    def classify(self, embedding: ZsSegEmbedding, classifier: Words) -> MaskScores:
        scores, kept = self._scores(embedding, classifier)  # [B, N, C], [B, N]
        nowhere = torch.tensor(-CERTAIN, dtype=embedding.masks.dtype, device=embedding.masks.device)
        masks = torch.where(kept[..., None, None], embedding.masks, nowhere)
        background = classifier.regions.background
        return MaskScores(masks, scores * kept[..., None], background, covers=embedding.covers)

    def normalise(self, images: Tensor) -> Tensor:
        """As MaskFormer takes them."""
        return pixels.normalise(images, self.config.mask_statistics, pixels.dtype_of(self.network or self.clip))

    def query_vectors(self, queries: Tensor) -> Tensor:
        """[..., W] -> [..., D], beside the words."""
        assert self.head is not None, "there are queries"
        vectors: Tensor = self.head(queries)
        return vectors

    def query_logits(self, vectors: Tensor, classifier: TextClassifier) -> Tensor:
        """The query branch's logits of the classes, "no object" last: [..., N, D] -> [..., N, C + 1]."""
        nothing = replace(classifier, weight=nn.functional.normalize(self.no_object.float(), dim=1))
        nothing = replace(nothing, class_of=classifier.class_of.new_zeros(1), channels=1)
        flat = vectors.flatten(0, -3)
        logits = torch.cat([_compare(flat, classifier), _compare(flat, nothing)], dim=-1)
        return logits.reshape(*vectors.shape[:-1], -1)

    def _scores(self, embedding: ZsSegEmbedding, classifier: Words) -> tuple[Tensor, Tensor]:
        """Of every mask and class [B, N, C]; and the masks that something is known of [B, N]."""
        kept, only_cropped = embedding.valid, embedding.valid & embedding.cropped
        own = clips = None
        if embedding.queries.shape[2] and self.config.branches != "regions":
            own = self.query_logits(embedding.queries, classifier.queries).softmax(dim=-1)[..., :-1]
        if embedding.regions.shape[2]:
            clips = _compare(embedding.regions, classifier.regions).softmax(dim=-1)
        if own is None:
            assert clips is not None, "one of the branches is asked"
            return clips, only_cropped
        if clips is None:
            return own, kept
        drops = self.config.invalid_regions == "drop"
        return self._ensemble(own, clips, embedding.cropped, classifier.unseen), only_cropped if drops else kept

    def _ensemble(self, own: Tensor, clips: Tensor, cropped: Tensor, unseen: Tensor) -> Tensor:
        """The geometric mean of the branches [B, N, C] (§4.5)."""
        config = self.config
        of_unseen = config.ensemble_weight if config.unseen_weight is None else config.unseen_weight
        share = torch.where(unseen.to(own.device), 1 - of_unseen, config.ensemble_weight)  # of the query branch
        scores = own.pow(share) * clips.pow(1 - share)
        alone = own.pow(share) if config.invalid_regions == "one" else own
        return torch.where(cropped[..., None], scores, alone)

    @torch.no_grad()
    def _regions(self, images: Tensor, proposals: Proposals, *, asked: bool) -> tuple[Tensor, Tensor]:
        """CLIP's vectors of the crops [B, N, D], and which masks have one [B, N] (§4.4)."""
        dtype = pixels.dtype_of(self.clip.vision)
        vectors = images.new_zeros(*proposals.valid.shape, self.clip.embed_dim if asked else 0, dtype=dtype)
        cropped = torch.zeros_like(proposals.valid)
        waiting = self._crops(images, proposals) if asked else iter(())
        while batch := list(itertools.islice(waiting, CROPS_AT_ONCE)):
            places, pictures = zip(*batch, strict=True)
            image, mask = torch.tensor(places, device=images.device).unbind(1)
            vectors[image, mask] = self.clip.image_features(torch.stack(pictures)).to(dtype)
            cropped[image, mask] = True
        return vectors, cropped

    def _crops(self, images: Tensor, proposals: Proposals) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """(image, mask) and crop of every valid mask that is not empty, in the dtype of CLIP's tower."""
        size, dtype = (images.shape[-2], images.shape[-1]), pixels.dtype_of(self.clip.vision)
        statistics = (self.clip.mean, self.clip.std)
        rule = self.config.crop_rule(self.config.crop_size or self.clip.image_size)
        least = math.log(self.config.mask_threshold / (1 - self.config.mask_threshold))
        for image, picture in enumerate(images):
            numbers = torch.nonzero(proposals.valid[image])[:, 0]
            for some in torch.split(numbers, max(1, NUMBERS_AT_ONCE // (size[0] * size[1]))):
                if not len(some):
                    continue
                full = upsample(proposals.masks[image, some][None], size, covers=proposals.covers)[0] > least
                for place, crop in crops(picture, full, rule, statistics, dtype):
                    yield (image, int(some[place])), crop

    def _scale(self, scale: float | None) -> float:
        return float(self.clip.logit_scale) if scale is None else scale


CROPS_AT_ONCE = 64  # that pass CLIP's tower together, of however many pictures
NUMBERS_AT_ONCE = 1 << 24  # of masks at the picture's size, 64 MB


def _compare(vectors: Tensor, classifier: TextClassifier) -> Tensor:
    """Scaled cosines with the best word of each class, in float32: [B, N, D] -> [B, N, C]."""
    return classifier.logits(vectors.mT[..., None])[..., 0].mT


RANDOM = "random"
MODEL_TYPE = "lexiseg_zsseg"
CLIP_FOLDER, LEARNED_FILE = "clip", "learned.safetensors"


def load(variant: Variant) -> ZsSeg:
    """Raises `WeightsError` for weights that are missing or do not fit."""
    config: Config = variant.config
    if variant.weights is None:
        if config.clip != RANDOM:
            return _fresh(config, Clip.load(config.clip, allow_pickle=config.allow_pickle))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _fresh(config, Clip.random(TINY_VIT))
    place = find(variant.weights, allow_pickle=config.allow_pickle)
    if place.is_file() and place.name != "model.safetensors":
        return _read_released(place, config)
    return _read_folder(place.parent if place.is_file() else place, config)


def save(segmenter: ZsSeg, folder: str | os.PathLike[str]) -> None:
    """MaskFormer with its head, learned prompts, and the CLIP in a folder of its own. Raises `OutputError`."""
    folder, network = Path(folder), segmenter.network
    tensors = {name: each for name, each in segmenter.state_dict().items() if not name.startswith(_NOT_OURS)}
    content = {
        "model_type": MODEL_TYPE,
        "clip": segmenter.config.clip,
        "dimension": None if network is None else segmenter.no_object.shape[1],
        "source_config": None if network is None else network.source_config,
    }
    files.write_bytes(folder / "model.safetensors", to_safetensors(portable(tensors), metadata={"format": "pt"}))
    files.write_text(folder / "config.json", json.dumps(content, indent=2) + "\n")
    segmenter.clip.save(folder / CLIP_FOLDER)
    if segmenter.context is not None:
        segmenter.learned.save(folder / LEARNED_FILE)


_NOT_OURS = ("clip.", "context", "proposer.")  # tensors that have files of their own, or are had anew


def _fresh(config: Config, clip: Clip) -> ZsSeg:
    segmenter = _build(config, clip, None if config.learned is None else Prompts.open(config.learned))
    if segmenter.network is not None and config.start_from is not None:
        segmenter.network.fill_backbone(
            None if config.start_from == "usual" else config.start_from, allow_pickle=config.allow_pickle
        )
    return segmenter.eval()


def _build(
    config: Config,
    clip: Clip,
    learned: Prompts | None,
    *,
    source_config: Mapping[str, Any] | None = None,
    dimension: int | None = None,
) -> ZsSeg:
    network = proposer = None
    if config.proposer == MASKFORMER:
        network = MaskFormerNetwork(config.masks, source_config=source_config)
    elif config.proposer != OUTSIDE:
        module = importlib.import_module(f"lexiseg.proposals.{config.proposer}")
        proposer = module.load(module.Config())
    # how the parts were made and read says nothing about the folder that they may be saved in
    own = replace(config, learned=None, start_from=None, allow_pickle=False)
    return ZsSeg(clip, own, network=network, proposer=proposer, learned=learned, dimension=dimension)


def _read_folder(folder: Path, config: Config) -> ZsSeg:
    content, tensors = read_json(folder / "config.json"), read_folder(folder)
    if content.get("model_type") != MODEL_TYPE:
        raise WeightsError(f"{folder} does not hold a zsseg; give a folder that its training or converter saved")
    swapped = config.clip != content["clip"]
    if swapped and config.branches != "regions" and config.proposer == MASKFORMER:
        raise SettingError(
            f"the queries of {folder} lie beside the words of {content['clip']}, not of {config.clip}; "
            "set branches=regions, or leave clip out"
        )
    if config.proposer == MASKFORMER and content["dimension"] is None:
        raise WeightsError(f"{folder} was saved without MaskFormer; set proposer, or give a folder that has it")
    clip = Clip.load(config.clip if swapped else folder / CLIP_FOLDER, allow_pickle=config.allow_pickle)
    learned = next(
        (Prompts.open(each) for each in (config.learned, folder / LEARNED_FILE) if each and Path(each).is_file()), None
    )
    segmenter = _build(config, clip, learned, source_config=content["source_config"], dimension=content["dimension"])
    fit(segmenter, {**_kept(segmenter), **tensors}, source=folder)
    return segmenter.eval()


def _read_released(file: Path, config: Config) -> ZsSeg:
    """A checkpoint of the authors' code, in detectron2's layout; its frozen CLIP is read from `config.clip`."""
    tensors = read_file(file, allow_pickle=config.allow_pickle)
    clip = Clip.load(config.clip, allow_pickle=config.allow_pickle)
    prefix = next((tensors[name] for name in PREFIXES if name in tensors), None)
    learned = None if prefix is None else Prompts(("{}.",), prefix.float())
    if learned is not None and config.learned_prompts == "none":
        both = PREFIXES[1] in tensors
        config = replace(config, learned_prompts="both" if both else "regions")
    segmenter = _build(config, clip, learned)
    # a norm that is frozen counts nothing
    counters = {name: torch.tensor(0) for name in segmenter.state_dict() if name.endswith(".num_batches_tracked")}
    fit(segmenter, {**_kept(segmenter), **counters, **tensors}, source=file, origin=of_zsseg)
    return segmenter.eval()


def _kept(segmenter: ZsSeg) -> dict[str, Tensor]:
    """The tensors that `save` leaves to others, and that are there already."""
    return {name: each for name, each in segmenter.state_dict().items() if name.startswith(_NOT_OURS)}


_LARGE = Inference(short_side=640, long_side=2560, blend="logits", prompts="vild14")


def _to_be_trained(backbone: str, about: str) -> Variant:
    weights = Weights("none", f"ZSSeg with {about}", "train it (lexiseg list recipes)")
    return Variant(Config(masks=MaskFormerShape(backbone)), weights, _LARGE, f"MaskFormer on {about}; to be trained")


_SMALL = Config(
    masks=MaskFormerShape("lite2", queries=32, width=128, layers=3, heads=4, ffn=512),
    start_from="usual",
    clip="asset:mini-clip",
    head_width=256,
    mask_statistics=(efficientnet_lite.MEAN, efficientnet_lite.STD),
)

_TINY_MASKS = MaskFormerShape("tiny", fixed_norms=False, queries=8, width=64, layers=2, heads=4, ffn=64)

VARIANTS: Mapping[str, Variant] = {
    "tiny": Variant(
        Config(masks=_TINY_MASKS, clip=RANDOM, head_width=32),
        None,
        Inference(short_side=64, blend="logits", prompts="single"),
        "random weights, for tests",
    ),
    "small": Variant(
        _SMALL,
        Weights("none", "a small ZSSeg", "train it (lexiseg train zsseg --mini)"),
        Inference(long_side=256, blend="logits", prompts="vild14"),
        "MaskFormer on EfficientNet-Lite2 beside the embedded CLIP; to be trained",
    ),
    "rn101": Variant(
        Config(masks=MaskFormerShape("rn101c")),
        Weights(
            "by_hand",
            "ZSSeg's checkpoint",
            "get it by hand, from the drive that github.com/MendelXu/zsseg.baseline links to",
            pickled=True,
        ),
        _LARGE,
        "MaskFormer on DeepLab's ResNet-101 and CLIP ViT-B/16: the paper's; needs weights=PATH of the authors' file",
    ),
    "rn50": _to_be_trained("rn50", "ResNet-50"),
    "swin-t": _to_be_trained("swin-t", "Swin-T"),
    "swin-s": _to_be_trained("swin-s", "Swin-S"),
    "swin-b": _to_be_trained("swin-b", "Swin-B"),
    "custom": Variant(Config(), None, _LARGE, "any backbone, proposer and CLIP; to be trained, or proposer=kmeans"),
}

_SHARED: dict[str, Any] = {"short_side": 640, "long_side": 2560, "prompts": "vild14", "antialias": True}

PRESETS = presets(
    Config,
    besides=(
        "proposer",
        "masks",
        "start_from",
        "clip",
        "head_width",
        "branches",
        "learned_prompts",
        "learned",
        "allow_pickle",
    ),
    shared=_SHARED,
    paper={"crop_antialias": False, "invalid_regions": "one", "region_scale": 100.0},
    released={"crop_antialias": False, "invalid_regions": "one", "region_scale": 100.0, "crop_size": 224},
)  # fmt: skip
