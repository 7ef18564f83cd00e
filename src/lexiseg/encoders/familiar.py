"""Tells which words a small model knows, and suggests others.

An embedded CLIP was shown a few hundred concepts. It has a vector for any word, and where it was not taught the word
that vector lies anywhere, as close to some concept as that of a word it knows: "donkey" is nearest to "keyboard". So
neither knowing nor likeness can be read from the vectors, and both are listed:

    concepts.json   beside the weights: "names" of the concepts, and "masks", those that were taught with masks
    familiar.json   beside the weights: "taken", nouns that the model puts at a concept that they mean
    HINTS           nouns by the name of like meaning, whatever the weights: synonyms and kinds

Where there are only names, only names are known. Weights with neither file say nothing about what they know.
tools/familiar_words.py and familiar_hints.py make the lists; docs/log.md compares the first with a rule on cosines.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg import files
from lexiseg.encoders.weights import find, read_json
from lexiseg.errors import WeightsError
from lexiseg.weights import AnyWeights, Weights

__all__ = ["HINTS", "NO_NAME", "Familiar", "familiar_with", "read_familiar", "write_familiar"]

NAMES, NOUNS = "concepts.json", "familiar.json"
HINTS = Path(__file__).parents[1] / "assets" / "_words" / "hints.json"
NO_NAME = ""  # in HINTS, of nouns that only look like a misspelt name
SHORTEST = 5  # letters of a word that may be a misspelt name
MOST_NOTES = 4  # sentences about a word each; of more words the first ones stand in one sentence
NEXT = re.compile(r" (?:of|with|without|in|on|at|under|over|near|from|behind|beside|and|or|that|who) ")

Sorted = dict[str, list[str]]  # name of a concept -> nouns


@dataclass(frozen=True, eq=False)
class Familiar:
    """The words that a model knows.

    names: of the concepts, lower case.
    taken: nouns, each with the concept that is nearest to it; None where they were not looked for.
    hints: nouns, each with a word of like meaning; None for the list in `HINTS`.
    outlined: the names that were taught with masks, lower case; the others with whole photographs alone. None where it
        was not told.
    """

    names: frozenset[str]
    taken: Mapping[str, str] | None = None
    hints: Mapping[str, str] | None = None
    outlined: frozenset[str] | None = None

    def knows(self, word: str) -> bool:
        """Whether the model knows the word, its singular, or what a phrase is about: the car of "red cars at night"."""
        return any(form in self.names or form in (self.taken or ()) for form in _forms(word))

    def outlines(self, word: str) -> bool:
        """Whether the model was shown the outlines of what a word that it knows names."""
        if self.outlined is None:
            return True
        taken = self.taken or {}
        known = (form for form in _forms(word) if form in self.names or form in taken)
        form = next(known, None)
        return form is not None and (form in self.outlined or taken.get(form, "").lower() in self.outlined)

    def warnings(self, words: Sequence[str]) -> tuple[str, ...]:
        """A sentence for each word that the model does not know; one for all of them where they are many."""
        return _warnings(self, tuple(words))

    def instead(self, word: str) -> str | None:
        """A word of like meaning that the model knows."""
        return next((name for form in _forms(word) if (name := self._hints.get(form)) in self.names), None)

    def misspelt(self, word: str) -> str | None:
        """A name that differs by a letter after the first, or by their order; of short words too many do."""
        word = " ".join(word.lower().split())
        if len(word) < SHORTEST or self._hints.get(word) == NO_NAME:
            return None
        names = sorted(name for name in self.names if name[:1] == word[:1])
        return next((name for name in names if _is_typo(word, name)), None)

    @property
    def _hints(self) -> Mapping[str, str]:
        return _packaged() if self.hints is None else self.hints


def familiar_with(weights: AnyWeights | None) -> Familiar | None:
    """What weights know; None for those of the hub and of files."""
    if weights is None or not Weights.of(weights).is_here or not (folder := find(weights)).is_dir():
        return None
    return read_familiar(folder)


def read_familiar(folder: Path) -> Familiar | None:
    """What the weights in a folder know; None where nothing beside them says it.

    Raises `WeightsError` for files that cannot be read.
    """
    if not (folder / NAMES).is_file():
        return None
    try:
        content = read_json(folder / NAMES)
        names = _lower(content["names"])
        outlined = _lower(content["masks"]) if "masks" in content else None
        taken = _by_noun(read_json(folder / NOUNS)["taken"]) if (folder / NOUNS).is_file() else None
        return Familiar(names, taken, outlined=outlined)
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"what {folder} knows cannot be read ({error!r}); copy the model again") from error


def write_familiar(folder: Path, taken: Sorted, *, text_digest: str) -> None:
    """text_digest: `Clip.text_digest` of the weights beside it, to tell a list that has outlived them.

    Raises `OutputError`.
    """
    content = {"text_digest": text_digest, "taken": taken}
    files.write_text(folder / NOUNS, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


@functools.lru_cache(maxsize=32)
def _warnings(familiar: Familiar, words: tuple[str, ...]) -> tuple[str, ...]:
    # once for a vocabulary, not for every photograph
    words = tuple(dict.fromkeys(words))
    unknown = [word for word in words if not familiar.knows(word)]
    rough = [word for word in words if word not in unknown and not familiar.outlines(word)]
    return (*_of_unknown(familiar, unknown, len(words)), *_of_rough(rough))


def _of_unknown(familiar: Familiar, unknown: Sequence[str], asked: int) -> tuple[str, ...]:
    if len(unknown) <= MOST_NOTES:
        return tuple(f"the model has not learned {word!r}{_advice(familiar, word)}" for word in unknown)
    few = ", ".join(repr(word) for word in unknown[:MOST_NOTES])
    return (
        f"the model has not learned {len(unknown)} of the {asked} words ({few}, ...), so treat their pixels with care",
    )


def _of_rough(rough: Sequence[str]) -> tuple[str, ...]:
    """One sentence for all words that were taught without masks."""
    if not rough:
        return ()
    few = ", ".join(repr(word) for word in rough[:MOST_NOTES]) + ", ..." * (len(rough) > MOST_NOTES)
    its = "its outline" if len(rough) == 1 else "their outlines"
    return (f"the model knows {few} from whole photographs alone, so {its} may be rough",)


def _advice(familiar: Familiar, word: str) -> str:
    if (name := familiar.instead(word)) is not None:
        return f", so treat its pixels with care; a word it knows: {name!r}"
    if (name := familiar.misspelt(word)) is not None:
        return f"; did you mean {name!r}?"
    return ", so treat its pixels with care"


@functools.cache
def _packaged() -> Mapping[str, str]:
    return _by_noun(read_json(HINTS))


def _lower(names: Sequence[Sequence[str]]) -> frozenset[str]:
    return frozenset(name.lower() for one in names for name in one)


def _by_noun(names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {noun: name for name, nouns in names.items() for noun in nouns}


def _is_typo(word: str, name: str) -> bool:
    """Whether one letter was changed, left out or added, or letters changed places."""
    if abs(len(word) - len(name)) > 1:
        return False
    shorter = min(len(word), len(name))
    at = next((place for place in range(shorter) if word[place] != name[place]), shorter)
    rests = ((word[at + 1 :], name[at + 1 :]), (word[at:], name[at + 1 :]), (word[at + 1 :], name[at:]))
    return any(one == other for one, other in rests) or sorted(word) == sorted(name)


def _forms(word: str) -> list[str]:
    """The word as it is, and what may be known in its place, the most likely first."""
    word = " ".join(word.lower().split())
    about = NEXT.split(word, maxsplit=1)[0].split()
    # "small red cars": all of it, then "red cars", then "cars"
    tails = [word, *(" ".join(about[start:]) for start in range(len(about)))]
    return [form for tail in dict.fromkeys(tails) for form in (tail, *_singulars(tail))]


def _singulars(word: str) -> list[str]:
    endings = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"), ("es", ""), ("s", ""))
    return [
        word.removesuffix(plural) + single for plural, single in endings if word.endswith(plural) and word != plural
    ]
