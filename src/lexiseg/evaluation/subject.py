"""Sets a model up by a protocol for a benchmark's words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.benchmarks import _benchmark
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.benchmarks._classes import with_background
from lexiseg.errors import DataError, SettingError
from lexiseg.evaluation.choosing import choose
from lexiseg.evaluation.protocols import LEXISEG, NAMES_ONLY, Protocol
from lexiseg.evaluation.setup import NO_WORDS, Model, Setup
from lexiseg.evaluation.tallies import relabelled
from lexiseg.inference.labelling import Embedded
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import TextClassifier, one_input_size
from lexiseg.vocabulary import Vocabulary

__all__ = ["Subject", "load", "open_benchmark", "prepare", "settle", "vocabulary_of"]

Labels = NDArray[Any]


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
        kept = {key: value for key, value in chosen.items() if key not in ("benchmark", "options", "dtype")}
        return {
            "model": self.predictor.name,
            "benchmark": self.opened.facts,
            "protocol": {**kept, "background_words": list(self.vocabulary.background)},
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


def prepare(setup: Setup) -> Subject:
    """Opens the benchmark and loads the model as the protocol says.

    Raises what `choose`, `benchmarks.open` and `lexiseg.load` raise, `DataError` where no data is given, and
    `SettingError` for settings that cannot be applied to what is loaded or opened already.
    """
    chosen, opened = settle(setup)
    predictor = load(setup.model, chosen) if isinstance(setup.model, Model) else _as_it_is(setup.model, chosen)
    if chosen.name == LEXISEG and setup.background is None:
        chosen = replace(chosen, background=_own_background(chosen, predictor, opened))
    theirs = chosen.name != LEXISEG and setup.background is None
    return Subject(predictor, opened, chosen, vocabulary_of(opened, chosen, as_published=theirs))


def settle(setup: Setup) -> tuple[Protocol, Opened]:
    """The protocol with the setup's changes, and the benchmark as it says; no model is loaded.

    Raises what `choose` and `open_benchmark` raise.
    """
    chosen = _changed(choose(setup), setup)
    return chosen, open_benchmark(setup, chosen)


def load(model: Model, chosen: Protocol) -> Predictor:
    """As `lexiseg.load` does, under a protocol; the settings tell the hash of the weights, before they are cast."""
    return Predictor.load(
        model.name,
        weights=model.weights,
        preset=chosen.preset if model.preset is None else model.preset,
        device=model.device,
        dtype=chosen.dtype if model.dtype == "auto" else model.dtype,
        changes={**one_input_size(chosen.settings), **one_input_size(model.changes)},
        digest=True,
    )


def open_benchmark(setup: Setup, chosen: Protocol | None = None) -> Opened:
    """The benchmark, with the wording and the options of a protocol where there is one.

    Raises what `benchmarks.open` raises, and `DataError` where no data is given.
    """
    if isinstance(setup.benchmark, Opened):
        return setup.benchmark
    if setup.folder is None:
        raise DataError(f"no data folder was given for {setup.on}; give data=FOLDER")
    wording = setup.wording if chosen is None else chosen.wording
    options = setup.options if chosen is None else chosen.options
    own = None if wording == NAMES_ONLY else wording
    return _benchmark.open(setup.on, setup.folder, split=setup.split, wording=own, **options)


def vocabulary_of(opened: Opened, chosen: Protocol, *, as_published: bool = False) -> Vocabulary:
    """The words that a protocol asks with; raises `SettingError` for background words where no background is scored.

    as_published: the background words are those of the authors. In any other case the classes' own words are left out
        of them.
    """
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
    return with_background(vocabulary, chosen.background, as_published=as_published)


def _changed(chosen: Protocol, setup: Setup) -> Protocol:
    background = chosen.background if setup.background is None else setup.background
    background = background if isinstance(background, str | None) else "|".join(background)
    return replace(
        chosen,
        wording=chosen.wording if setup.wording is None else setup.wording,
        background=None if background is None or background.lower() == NO_WORDS else background,
        options={**chosen.options, **setup.options},
    )


def _as_it_is(predictor: Predictor, chosen: Protocol) -> Predictor:
    if chosen.settings or chosen.preset:
        raise SettingError(
            f"protocol {chosen.name!r} changes how {predictor.name} is loaded, and it is loaded already; "
            "give the model by its name, or protocol='lexiseg'"
        )
    return predictor


def _own_background(chosen: Protocol, predictor: Predictor, opened: Opened) -> str | None:
    """What stands for the background by default: the data's words for it, else the benchmark's list.

    There are none where it is not scored, or where a threshold decides what belongs to it.
    """
    if opened.background is None or predictor.inference.background_threshold is not None or chosen.background is None:
        return None
    return opened.background_default
