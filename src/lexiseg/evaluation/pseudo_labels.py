"""Writes label maps for a training stage that is a `Labelling`.

They are PNGs of class indices.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lexiseg import files
from lexiseg.data.labelled.dense import UNLABELLED
from lexiseg.data.labelled.pseudo import PseudoLabels
from lexiseg.data.labelled.source import DenseSource
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.text_cache import TextCache
from lexiseg.errors import DataError, ImageError, SettingError
from lexiseg.evaluation import pipeline
from lexiseg.evaluation.tallies import relabelled
from lexiseg.formats import png
from lexiseg.inference.fingerprint import weights_digest
from lexiseg.inference.predictor import Predictor, load
from lexiseg.segmenter import DenseLogits, MaskScores, Segmenter, Traits
from lexiseg.training.recipe import Labelling
from lexiseg.vocabulary import Vocabulary

__all__ = ["label"]

_logger = logging.getLogger(__name__)

LabelMap = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Item:
    """A picture and its training labels; `image` is None where they cannot be read."""

    key: str
    image: NDArray[np.uint8] | None
    labels: LabelMap


def label(
    stage: Labelling,
    folder: Path,
    *,
    rank: int = 0,
    world: int = 1,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Labels those photographs of the stage's data that have no label map yet, one in `world`, in fp32.

    The teacher chooses among the classes that unlabelled pixels may have, or weighs all by the stage's prior. Where it
    says background, pixels get that class, if the data has it and they may have it. Pixels that stay without a class
    hold 255, or 65535 above 255 classes; so do ignored ones with `keep_seen`, and those below a `confidence`.

    progress: called with how many are labelled and how many there are to label.

    Returns how many were "labelled" now, and "skipped" since they cannot be read. Raises as `lexiseg.load` and the data
    do, `SettingError` for data without classes, `OutputError` for a folder with label maps that were made otherwise.
    """
    source = _source(stage)
    predictor = _teacher(stage, source)
    made = PseudoLabels(folder, source.classes, source.relabel.ignore, _facts(stage, source, predictor))
    made.begin()
    indices = [at for at in range(rank, sum(source.blocks), world) if not made.path(source.key(at)).is_file()]
    done: list[str] = []
    skipped: list[str] = []

    def read(index: int) -> _Item:
        key = source.key(index)
        try:
            return _Item(key, *source.read(index))
        except (DataError, ImageError) as error:
            skipped.append(key)
            _logger.warning("skipped %s: %s", key, error)
            return _Item(key, None, np.zeros((0, 0), np.int64))

    def record(answer: tuple[_Item, LabelMap]) -> None:
        item, labels = answer
        files.write_bytes(made.path(item.key), png.encode(labels))
        done.append(item.key)
        if progress is not None:
            progress(len(done), len(indices))

    def answers(items: Iterator[_Item]) -> Iterator[tuple[_Item, LabelMap]]:
        return _answers(stage, source, predictor, itertools.takewhile(lambda _: not stop(), items))

    pipeline.run(indices, read=read, label=answers, record=record)
    return {"labelled": len(done), "skipped": len(skipped)}


def _source(stage: Labelling) -> DenseSource:
    opened = stage.data.open(batch_size=1, seed=0, max_bad_fraction=1.0)
    source = getattr(opened, "source", None)
    if not isinstance(source, DenseSource) or source.vocabulary is None:
        raise SettingError(
            f"the data of the stage {stage.name!r} ({type(stage.data).__name__}) has no classes to label with; "
            "give a benchmark's, or photographs with label maps"
        )
    return source


def _teacher(stage: Labelling, source: DenseSource) -> Predictor:
    """The teacher, which never says what may not be there where it is asked about all classes."""
    predictor = load(stage.teacher, dtype="fp32", **stage.teacher_settings)
    if stage.prior is None:
        return predictor
    return Predictor(
        _Weighed(predictor.segmenter, _prior(source, stage.prior)),
        predictor.inference,
        name=predictor.name,
        device=predictor.device,
        dtype="fp32",
        about=predictor.about,
        familiar=predictor.familiar,
        text_cache=predictor.text_cache,
        fingerprint=predictor.fingerprint,
    )


def _prior(source: DenseSource, others: float) -> Tensor:
    """What the posterior of each class with words is multiplied by [C]."""
    assert source.vocabulary is not None, "_source checks it"
    factors = torch.full((len(source.vocabulary),), others)
    factors[list(source.fillable)] = 1.0
    return factors


class _Weighed(nn.Module, Segmenter[Any, Any]):
    """A segmenter whose classes are multiplied by a prior [C], whatever it returns; the background is left alone."""

    def __init__(self, inner: Any, prior: Tensor) -> None:
        super().__init__()
        self.inner, self.prior, self.config = inner, prior, inner.config

    @property
    def traits(self) -> Traits:
        found: Traits = self.inner.traits
        return found

    @property
    def patch(self) -> int:
        return int(self.inner.patch)

    @property
    def multiple(self) -> int:
        return int(self.inner.multiple)

    def embed_text(self, vocabulary: Vocabulary, prompts: Prompts, *, cache: TextCache | None = None) -> Any:
        return self.inner.embed_text(vocabulary, prompts, cache=cache)

    def embed_image(self, images: Tensor) -> Any:
        return self.inner.embed_image(images)

    def finish(self, embedding: Any) -> Any:
        return self.inner.finish(embedding)

    def classify(self, embedding: Any, classifier: Any) -> DenseLogits | MaskScores:
        result: DenseLogits | MaskScores = self.inner.classify(embedding, classifier)
        if isinstance(result, DenseLogits):
            factors = self._factors(result.logits, result.channels)
            return replace(result, logits=result.logits + factors.log()[:, None, None])
        return replace(result, scores=result.scores * self._factors(result.scores, result.channels))

    def _factors(self, like: Tensor, channels: int) -> Tensor:
        return functional.pad(self.prior.to(like), (0, channels - len(self.prior)), value=1.0)


def _facts(stage: Labelling, source: DenseSource, predictor: Predictor) -> dict[str, Any]:
    """What decides the label maps."""
    return {
        "settings": {key: value for key, value in predictor.settings.items() if key not in ("model", "device")},
        "weights": weights_digest(predictor.segmenter),
        "words": _asked(stage, source).digest,
        "data": files.digest(source.manifest()),
        "confidence": stage.confidence,
        **({} if stage.prior is None else {"prior": stage.prior}),
        "keep_seen": stage.keep_seen,
    }


def _asked(stage: Labelling, source: DenseSource) -> Vocabulary:
    """The classes that unlabelled pixels may have; with a prior all that have words."""
    assert source.vocabulary is not None, "_source checks it"
    return source.vocabulary.only(_places(stage, source))


def _places(stage: Labelling, source: DenseSource) -> Sequence[int]:
    """Of the classes that are asked for, among those of the data."""
    return source.fillable if stage.prior is None else range(len(source.vocabulary or ()))


def _answers(
    stage: Labelling, source: DenseSource, predictor: Predictor, items: Iterator[_Item]
) -> Iterator[tuple[_Item, LabelMap]]:
    """The label map of each picture that could be read."""
    waiting: deque[_Item] = deque()

    def images() -> Iterator[NDArray[np.uint8]]:
        for item in items:
            if item.image is not None:
                waiting.append(item)
                yield item.image

    threshold: float | None = 0.0 if stage.confidence is None else stage.confidence  # and not the model's own
    if stage.confidence is None and predictor.segmenter.traits.background == "own":
        threshold = None  # its rule is a part of it
    for found in predictor.segment_many(
        images(), _asked(stage, source), threshold=threshold, scores=False, keep_image=False
    ):
        item = waiting.popleft()
        yield item, _label_map(stage, source, item.labels, found.labels)


def _label_map(stage: Labelling, source: DenseSource, known: LabelMap, answer: LabelMap) -> LabelMap:
    """The teacher's classes as those of the data, where nothing is known."""
    classes = len(source.classes)
    labels = relabelled(answer, [*_places(stage, source), _rest(stage, source)], classes)
    return np.where(known == UNLABELLED, labels, known).astype(labels.dtype) if stage.keep_seen else labels


def _rest(stage: Labelling, source: DenseSource) -> int:
    """The class of pixels that the teacher gave none: the background where they may have it, else no class.

    With a confidence, pixels that it was not sure of are among them.
    """
    background, classes = len(source.vocabulary or ()), len(source.classes)
    may_be = not source.relabel.suppressed or background in source.relabel.suppressed
    return background if background < classes and may_be and stage.confidence is None else classes
