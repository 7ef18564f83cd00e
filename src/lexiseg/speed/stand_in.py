"""Makes models of random weights, to measure the speed of.

They have the right shape where a model's own weights are not on this machine.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import ClipShape
from lexiseg.encoders.groupvit_towers import GroupVit, GroupVitShape
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.encoders.vit_bert import VitBert, VitBertShape
from lexiseg.encoders.wordpiece import LETTERS
from lexiseg.errors import WeightsError
from lexiseg.evaluation.setup import Model
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import Segmenter, TextClassifier, Variant
from lexiseg.vocabulary import Vocabulary
from lexiseg.weights import Architecture, Weights

__all__ = ["load"]


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
    weights = variant.weights
    if weights is not None and weights.is_here:
        segmenter: Segmenter[Any, Any] = module.load(variant)
        return segmenter
    try:
        # a file that the user named is missing, whatever architecture it should have had; or only the method knows how
        # to make its architecture
        if weights is None or weights.kind in ("file", "none") or not _is_of_towers(weights.shape):
            return _with_random_words(module.load(replace(variant, weights=None)))
        with tempfile.TemporaryDirectory() as folder:
            _random_towers(weights.shape).save(folder)
            return _with_random_words(module.load(replace(variant, weights=Weights("file", folder))))
    except WeightsError as error:
        raise WeightsError(
            f"{name} has no weights on this machine, and their shape is not known; give a folder or file "
            f"with weights=FILE ({error})"
        ) from error


def _is_of_towers(shape: Architecture | None) -> bool:
    return shape is None or isinstance(shape, ClipShape | VitBertShape | GroupVitShape)


def _random_towers(shape: Architecture | None) -> Clip | VitBert | GroupVit:
    """In half precision, since they go through a file; the text towers are small, for words are embedded beforehand."""
    small: dict[str, Any] = {"text_width": 64, "text_layers": 1}
    if isinstance(shape, VitBertShape):
        return VitBert.random(replace(shape, vocabulary=len(LETTERS), positions=40, **small)).half()
    if isinstance(shape, GroupVitShape):
        towers = GroupVit.random(replace(shape, context=32, vocabulary=4093, **small))
        towers.text.log_scale.data.fill_(math.log(100))
        return towers.half()
    if not isinstance(shape, ClipShape):
        raise WeightsError("nothing says which architecture the weights are of")
    clip = Clip.random(replace(shape, context=32, vocabulary=4093, **small))
    clip.log_scale.data.fill_(math.log(100))  # what OpenAI's have learned
    return clip.half()


def _with_random_words(segmenter: Any) -> Segmenter[Any, Any]:
    """A random text tower puts all words in nearly one place, where no class is ever ahead of another."""
    embed = segmenter.embed_text

    def embed_text(vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> Any:
        classifier = embed(vocabulary, prompts)
        if not isinstance(classifier, TextClassifier):
            return classifier
        noise = torch.randn(classifier.weight.shape, generator=torch.Generator().manual_seed(0))
        return replace(classifier, weight=F.normalize(noise, dim=1).to(classifier.weight))

    segmenter.embed_text = embed_text
    result: Segmenter[Any, Any] = segmenter
    return result
