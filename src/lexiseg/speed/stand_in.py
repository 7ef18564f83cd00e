"""Models to measure the speed of: random weights of the right shape where a model's own are not on this machine."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import ClipShape
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.vit_bert import VitBert, VitBertShape
from lexiseg.encoders.wordpiece import LETTERS
from lexiseg.errors import WeightsError
from lexiseg.evaluation.setup import Model
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import Segmenter, TextClassifier, Variant
from lexiseg.vocabulary import Vocabulary

__all__ = ["SHAPES", "load"]


def load(model: Model, **changes: Any) -> Predictor:
    """As `Predictor.load`, but that nothing is downloaded: weights that are not here are replaced.

    Words of a model with random weights are random too. changes: on top of the model's own.
    Raises as `Predictor.load` does, and `WeightsError` for weights that are neither here nor of a known shape.
    """
    return Predictor.load(
        model.name,
        weights=model.weights,
        preset=model.preset,
        device=model.device,
        dtype=model.dtype,
        text_cache=False,
        changes={**model.changes, **changes},
        build=_segmenter,
    )


def _segmenter(module: ModuleType, variant: Variant, name: str) -> Segmenter[Any, Any]:
    if variant.weights is not None and (variant.weights.startswith("asset:") or Path(variant.weights).exists()):
        segmenter: Segmenter[Any, Any] = module.load(variant)
        return segmenter
    shape = SHAPES.get(variant.weights or "")
    try:
        if shape is None:
            return _with_random_words(module.load(replace(variant, weights=None)))
        with tempfile.TemporaryDirectory() as folder:
            _random_towers(shape).save(folder)
            return _with_random_words(module.load(replace(variant, weights=folder)))
    except WeightsError as error:
        raise WeightsError(
            f"{name} has no weights on this machine, and their shape is not known; give a folder or file "
            f"with weights=FILE ({error})"
        ) from error


def _random_towers(shape: ClipShape | VitBertShape) -> Clip | VitBert:
    """In half precision, since they go through a file."""
    if isinstance(shape, VitBertShape):
        return VitBert.random(shape).half()
    clip = Clip.random(shape)
    clip.log_scale.data.fill_(math.log(100))  # what OpenAI's have learned
    return clip.half()


def _with_random_words(segmenter: Any) -> Segmenter[Any, Any]:
    """A random text tower puts all words in nearly one place, where no class is ever ahead of another."""
    embed = segmenter.embed_text

    def embed_text(vocabulary: Vocabulary, templates: Sequence[str], *, cache: TextCache | None = None) -> Any:
        classifier = embed(vocabulary, templates)
        if not isinstance(classifier, TextClassifier):
            return classifier
        noise = torch.randn(classifier.weight.shape, generator=torch.Generator().manual_seed(0))
        return replace(classifier, weight=F.normalize(noise, dim=1).to(classifier.weight))

    segmenter.embed_text = embed_text
    result: Segmenter[Any, Any] = segmenter
    return result


def _vit(image_size: int, width: int, layers: int, patch: int, embed_dim: int) -> ClipShape:
    return ClipShape(embed_dim, image_size, width, layers, patch, 64, 1, context=32, vocabulary=4093)


def _resnet(image_size: int, width: int, layers: tuple[int, int, int, int], embed_dim: int) -> ClipShape:
    return ClipShape(embed_dim, image_size, width, layers, None, 64, 1, context=32, vocabulary=4093)


def _simseg(width: int) -> VitBertShape:
    return VitBertShape(224, 16, width, 12, 64, 1, vocabulary=len(LETTERS), positions=40)


# the image towers of weights that are not at hand; the text towers are small, since words are embedded beforehand
SHAPES: dict[str, ClipShape | VitBertShape] = {
    "openai/clip-vit-base-patch32": _vit(224, 768, 12, 32, 512),
    "openai/clip-vit-base-patch16": _vit(224, 768, 12, 16, 512),
    "openai/clip-vit-large-patch14": _vit(224, 1024, 24, 14, 768),
    "openai/clip-vit-large-patch14-336": _vit(336, 1024, 24, 14, 768),
    "official:RN50.pt": _resnet(224, 64, (3, 4, 6, 3), 1024),
    "official:RN101.pt": _resnet(224, 64, (3, 4, 23, 3), 512),
    "official:RN50x4.pt": _resnet(288, 80, (4, 6, 10, 6), 640),
    "official:RN50x16.pt": _resnet(384, 96, (6, 8, 18, 8), 768),
    "official:RN50x64.pt": _resnet(448, 128, (3, 15, 36, 10), 1024),
    "authors:ViT-S/16": _simseg(384),
    "authors:ViT-B/16": _simseg(768),
}
