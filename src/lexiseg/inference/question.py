"""Answers one question, words and options, about any number of embedded pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch

from lexiseg.encoders.familiar import Familiar
from lexiseg.errors import SettingError
from lexiseg.inference.decoder import Decoded
from lexiseg.inference.labelling import Embedded, Labeller, Refine
from lexiseg.inference.notes import notes
from lexiseg.segmentation import Segmentation
from lexiseg.segmenter import Segmenter
from lexiseg.vocabulary import Vocabulary

__all__ = ["Model", "Question", "check_threshold"]


@dataclass(frozen=True, eq=False)
class Model:
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

    model: Model
    vocabulary: Vocabulary
    threshold: float | None = None
    scores: bool = True
    classifier: Any = None

    @torch.inference_mode()
    def label(self, embedded: Embedded) -> Decoded:
        """The label map alone. Raises `SettingError` for what another model has embedded."""
        self._check(embedded)
        model, given = self.model, self.threshold is not None
        labeller = Labeller(
            model.segmenter,
            model.classifier(self.vocabulary) if self.classifier is None else self.classifier,
            self.vocabulary,
            own_threshold=None if given else model.own_threshold,
            threshold=self.threshold or None,  # no posterior is below 0
            scores=self.scores,
            refine=model.refine,
        )
        return labeller.label(embedded)

    def answer(self, embedded: Embedded) -> Segmentation:
        """The label map with all that belongs to it. Raises as `label` does."""
        decoded, model = self.label(embedded), self.model
        threshold = model.own_threshold if self.threshold is None else self.threshold
        facts = {**model.settings(), "threshold": threshold} | ({"masks": embedded.masks} if embedded.masks else {})
        warnings = (*notes(self.vocabulary, model.familiar, model.segmenter.traits), *embedded.notes)
        return Segmentation(
            decoded.labels, decoded.scores, self.vocabulary, model.name, facts, warnings, embedded.image
        )

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
