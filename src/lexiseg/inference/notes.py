"""Writes what a user should know about the words of a result."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from lexiseg.encoders.familiar import Familiar
from lexiseg.vocabulary import Vocabulary

__all__ = ["notes"]


def notes(
    vocabulary: Vocabulary, labels: npt.NDArray[Any], *, familiar: Familiar | None, own_background: bool
) -> tuple[str, ...]:
    """A sentence each.

    labels: [H, W], of this vocabulary.
    familiar: which words the model knows; None where nothing says it.
    own_background: whether the method leaves pixels unlabelled by a rule of its own.
    """
    unknown = () if familiar is None else familiar.warnings(vocabulary.chosen)
    alone = len(vocabulary) == 1 and not vocabulary.background and not own_background and not labels.any()
    return (*unknown, _alone(vocabulary.names[0])) if alone else unknown


def _alone(name: str) -> str:
    return (
        f"with one class and no background every pixel is {name!r}; "
        'background="auto" (--background auto) leaves the rest unlabelled'
    )
