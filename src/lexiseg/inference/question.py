"""Answers one question about any number of embedded pictures.

A question is words and options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lexiseg.encoders.familiar import Familiar
from lexiseg.errors import SettingError
from lexiseg.inference import common_words
from lexiseg.inference.decoder import Decoded
from lexiseg.inference.labelling import Embedded, Labeller, Refine
from lexiseg.inference.notes import beaten, notes
from lexiseg.segmentation import Segmentation
from lexiseg.segmenter import Segmenter
from lexiseg.vocabulary import Vocabulary

__all__ = ["Answering", "Question", "check_threshold"]


@dataclass(frozen=True, eq=False)
class Answering:
    """What answering needs of a predictor.

    classifier: makes the words' classifier, or finds it again; asked for at each picture, since a precision that
        overflows is given up for a wider one.
    settings: what a result says about how it was made, at the time of asking.
    own_threshold: posterior, 0-1, or None.
    """

    name: str
    fingerprint: str
    segmenter: Segmenter[Any, Any]
    classifier: Callable[[Vocabulary], Any]
    settings: Callable[[], dict[str, Any]]
    own_threshold: float | None
    refine: Refine | None
    familiar: Familiar | None


@dataclass(frozen=True, eq=False)
class Question:
    """Words, a threshold and options; `Predictor.ask` makes one.

    threshold: posterior, 0-1; None is the model's own, and 0 leaves no pixel out.
    classifier: the words, where they are embedded already.
    """

    model: Answering
    vocabulary: Vocabulary
    threshold: float | None = None
    scores: bool = True
    classifier: Any = None

    @torch.inference_mode()
    def label(self, embedded: Embedded) -> Decoded:
        """The label map alone. Raises `SettingError` for what another model has embedded."""
        return self._labeller(embedded).label(embedded)

    @torch.inference_mode()
    def posterior(self, embedded: Embedded, name: str, *, long_side: int | None = None) -> npt.NDArray[np.float16]:
        """The posterior of one class, 0-1 [H, W], without a threshold; 0 where the photograph has no pixels.

        name: of the class, or any of its words.
        long_side: pixels of the result's long side, at most; None for the photograph's own size.

        Raises `UnknownName` for a class that was not asked about, and what `label` raises.
        """
        height, width = embedded.size
        factor = 1.0 if long_side is None else min(1.0, long_side / max(height, width))
        size = max(1, round(height * factor)), max(1, round(width * factor))
        valid = embedded.valid
        if valid is not None and size != embedded.size:
            valid = valid[np.ix_(*(np.arange(n) * side // n for n, side in zip(size, embedded.size, strict=True)))]
        smaller = dataclasses.replace(embedded, size=size, valid=valid)
        return self._labeller(embedded).posterior(smaller, name)

    def _labeller(self, embedded: Embedded) -> Labeller:
        self._check(embedded)
        model, given = self.model, self.threshold is not None
        return Labeller(
            model.segmenter,
            model.classifier(self.vocabulary) if self.classifier is None else self.classifier,
            self.vocabulary,
            own_threshold=None if given else model.own_threshold,
            threshold=self.threshold or None,  # no posterior is below 0
            scores=self.scores,
            refine=model.refine,
        )

    def answer(self, embedded: Embedded) -> Segmentation:
        """The label map with all that belongs to it. Raises as `label` does."""
        self._check(embedded)
        if embedded.joined:  # one view, from an iterator perhaps, which may be read twice here
            looks = (replace(embedded.looks[0], views=tuple(embedded.views)), *embedded.looks[1:])
            embedded = replace(embedded, looks=looks)
        decoded, model = self.label(embedded), self.model
        threshold = model.own_threshold if self.threshold is None else self.threshold
        facts = {**model.settings(), "threshold": threshold} | ({"masks": embedded.masks} if embedded.masks else {})
        warnings = (*notes(self.vocabulary, model.familiar, model.segmenter.traits), *embedded.notes)
        if self._common_words_fit_better(embedded):
            warnings += (beaten(embedded.name),)
        return Segmentation(
            decoded.labels, decoded.scores, self.vocabulary, model.name, facts, warnings, embedded.image
        )

    def _common_words_fit_better(self, embedded: Embedded) -> bool:
        """Asked where the model says which words it knows, and nobody asked for the rest of the picture."""
        model, vocabulary = self.model, self.vocabulary
        threshold = model.own_threshold if self.threshold is None else self.threshold
        if model.familiar is None or threshold or not common_words.may_be_asked(vocabulary, model.segmenter, embedded):
            return False
        share = common_words.fitting_better(embedded, vocabulary, model.segmenter, model.classifier, model.familiar)
        return share >= common_words.MOST

    def _check(self, embedded: object) -> None:
        if not isinstance(embedded, Embedded):
            raise SettingError(
                f"classify takes what embed has returned, got a {type(embedded).__name__}; "
                "call segment for a photograph"
            )
        if embedded.fingerprint and embedded.fingerprint != self.model.fingerprint:
            name, other = self.model.name, embedded.model
            other += " with other weights or settings" if other == name else ""
            raise SettingError(
                f"{embedded.name} was embedded by {other} and cannot be classified by {name}; embed it with {name}"
            )


def check_threshold(threshold: object) -> None:
    """Raises `SettingError` for what is neither None nor a posterior."""
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if threshold is not None and not (number and 0 <= threshold <= 1):  # type: ignore[operator]
        raise SettingError(f"threshold must be a number from 0 to 1, got {threshold!r}")
