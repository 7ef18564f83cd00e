"""Writes what a user should know about a result's words."""

from __future__ import annotations

from lexiseg.encoders.familiar import Familiar
from lexiseg.segmenter import Traits
from lexiseg.vocabulary import Vocabulary
from lexiseg.words.background import AUTO_BACKGROUND

__all__ = ["beaten", "notes"]


def notes(vocabulary: Vocabulary, familiar: Familiar | None, traits: Traits) -> tuple[str, ...]:
    """A sentence each: words that the model has not learned, and one class that takes every pixel.

    familiar: which words the model knows; None where nothing says it.
    """
    unknown = () if familiar is None else familiar.warnings(vocabulary.chosen)
    alone = len(vocabulary) == 1 and not vocabulary.background and traits.background == "none"
    return (*unknown, _alone(vocabulary.names[0])) if alone else unknown


def beaten(picture: str) -> str:
    """What is said of a picture that shows common words rather than those it was asked about."""
    few = ", ".join(AUTO_BACKGROUND[:3])
    return (
        f"{picture}: common words ({few} ...) fit nearly all of it better than yours; "
        'background="auto" (--background auto) leaves such pixels unlabelled'
    )


def _alone(name: str) -> str:
    # a threshold does not help: the posterior of one class is 1
    return (
        f"with one class and no background every pixel is {name!r}; "
        'background="auto" (--background auto) leaves the rest unlabelled'
    )
