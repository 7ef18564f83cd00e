"""A model set up by a protocol for the words of a benchmark: what is measured."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg import catalog
from lexiseg.benchmarks import _benchmark
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.benchmarks._classes import background_lists, background_words
from lexiseg.errors import DataError, SettingError
from lexiseg.evaluation.protocols import LEXISEG, NAMES_ONLY, Protocol
from lexiseg.evaluation.published import protocol
from lexiseg.evaluation.tallies import relabelled
from lexiseg.inference.labelling import Embedded
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import TextClassifier, one_input_size
from lexiseg.vocabulary import Vocabulary

__all__ = ["Model", "Subject", "choose", "load", "prepare", "vocabulary_of"]

Labels = NDArray[Any]


@dataclass(frozen=True)
class Model:
    """A model by name and what is changed about it; see `lexiseg.load`. changes: on top of the protocol's settings."""

    name: str
    weights: str | os.PathLike[str] | None = None
    preset: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Subject:
    """vocabulary: the classes asked for, with the background words if there are any."""

    predictor: Predictor
    opened: Opened
    protocol: Protocol
    vocabulary: Vocabulary

    @property
    def classes(self) -> int:
        """How many are scored, the background included."""
        return len(self.opened.names)

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides the number, beside how it is measured."""
        chosen = asdict(self.protocol)
        return {
            "model": self.predictor.name,
            "benchmark": self.opened.facts,
            "protocol": {key: value for key, value in chosen.items() if key not in ("benchmark", "options")},
            "words": self.vocabulary.digest,
            **({"seen": self.vocabulary.seen} if self.predictor.segmenter.traits.reads_seen else {}),
            "settings": self.predictor.settings,
        }

    def scored(self, labels: Labels) -> Labels:
        """A label map of the predictor's over the scored classes: "none of these" is the background, if it counts."""
        none = self.classes if self.opened.background is None else self.opened.background
        return relabelled(labels, [*range(len(self.vocabulary)), none], self.classes)

    def own_words(self, embedded: Embedded, truth: Labels) -> Labels | None:
        """The label map when only the classes in `truth` are asked for; None where there are fewer than two."""
        present = np.unique(truth)
        chosen: list[int] = present[present < len(self.vocabulary)].tolist()  # not the background, not what is unscored
        if len(chosen) < 2:
            return None
        return relabelled(self._ask(embedded, chosen), [*chosen, self.classes], self.classes)

    def _ask(self, embedded: Embedded, chosen: list[int]) -> Labels:
        """A label map over a few of the classes, whose text vectors are known already."""
        few, classifier = self.vocabulary.only(chosen), self.predictor.embed_text(self.vocabulary)
        known = None
        if isinstance(classifier, TextClassifier):
            kept = np.flatnonzero(np.isin(self.vocabulary.class_of, chosen))
            known = TextClassifier.of(few, classifier.weight[kept], classifier.scale)
        # whatever its posterior is, the best of these classes is the answer
        return self.predictor.ask(few, threshold=0, scores=False, classifier=known).label(embedded).labels


def prepare(
    model: Model | Predictor,
    benchmark: str | Opened,
    data: str | os.PathLike[str] | None = None,
    *,
    wanted: str | Protocol | None = None,
    split: str | None = None,
    wording: str | None = None,
    background: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Subject:
    """Opens the benchmark and loads the model as the protocol says.

    wanted: a protocol or the name of one; None is the method's own.
    wording, background, options: in place of the protocol's.

    Raises what `benchmarks.open`, `lexiseg.load` and `protocols.protocol` raise, `DataError` where `data` is not given,
    and `SettingError` for settings that cannot be applied to what is loaded or opened already.
    """
    name = benchmark if isinstance(benchmark, str) else benchmark.benchmark.name
    chosen = _changed(choose(model, name, wanted), wording, background, options or {})
    opened = _open(benchmark, data, split, chosen) if isinstance(benchmark, str) else benchmark
    predictor = load(model, chosen) if isinstance(model, Model) else _as_it_is(model, chosen)
    if chosen.name == LEXISEG and background is None and not _needs_words(predictor, opened):
        chosen = replace(chosen, background=None)
    return Subject(predictor, opened, chosen, vocabulary_of(opened, chosen))


def choose(model: Model | Predictor, benchmark: str, wanted: str | Protocol | None) -> Protocol:
    """The protocol to follow: the one given, the one called so, or the method's own.

    Raises `UnknownName` and `SettingError` as `protocols.protocol` does.
    """
    if isinstance(wanted, Protocol):
        return wanted
    if isinstance(model, Predictor):
        module, variant = importlib.import_module(type(model.segmenter).__module__), None
        traits = model.segmenter.traits
    else:
        module, loaded = catalog.resolve(model.name, weights=model.weights, preset=model.preset, **model.changes)
        variant = model.name.partition("/")[2] if model.weights is None else None
        traits = module.traits(loaded.config)
    method = module.__name__.rpartition(".")[2]
    return protocol(method, benchmark, wanted, variant=variant, own_background=traits.background == "own")


def load(model: Model, chosen: Protocol) -> Predictor:
    """As `lexiseg.load` does, under a protocol; the settings tell the hash of the weights, before they are cast."""
    return Predictor.load(
        model.name,
        weights=model.weights,
        preset=chosen.preset if model.preset is None else model.preset,
        device=model.device,
        dtype=model.dtype,
        changes={**one_input_size(chosen.settings), **one_input_size(model.changes)},
        digest=True,
    )


def _changed(chosen: Protocol, wording: str | None, background: str | None, options: Mapping[str, str]) -> Protocol:
    return replace(
        chosen,
        wording=chosen.wording if wording is None else wording,
        background=chosen.background if background is None else background,
        options={**chosen.options, **options},
    )


def _open(benchmark: str, data: str | os.PathLike[str] | None, split: str | None, chosen: Protocol) -> Opened:
    if data is None:
        raise DataError(f"no data folder was given for {benchmark}; give data=FOLDER")
    wording = None if chosen.wording == NAMES_ONLY else chosen.wording
    return _benchmark.open(benchmark, Path(data), split=split, wording=wording, **chosen.options)


def _as_it_is(predictor: Predictor, chosen: Protocol) -> Predictor:
    if chosen.settings or chosen.preset:
        raise SettingError(
            f"protocol {chosen.name!r} changes how {predictor.name} is loaded, and it is loaded already; "
            "give the model by its name, or protocol='lexiseg'"
        )
    return predictor


def _needs_words(predictor: Predictor, opened: Opened) -> bool:
    """Whether a background is scored and nothing else decides what belongs to it."""
    return opened.background is not None and predictor.inference.background_threshold is None


def vocabulary_of(opened: Opened, chosen: Protocol) -> Vocabulary:
    """The words that a protocol asks with; raises `SettingError` for background words where no background is scored."""
    vocabulary = opened.vocabulary
    if chosen.wording == NAMES_ONLY:
        vocabulary = Vocabulary({name: (name,) for name in vocabulary.names}, seen=vocabulary.seen, shared_words=True)
    if chosen.background is None:
        return vocabulary
    if opened.background is None:
        raise SettingError(
            f"{opened.benchmark.name} does not score a background, so words for it ({chosen.background!r}) could only "
            "lose pixels; leave them out"
        )
    if chosen.background in background_lists():
        return vocabulary.with_background(background_words(chosen.background))
    return vocabulary.with_background(chosen.background)
