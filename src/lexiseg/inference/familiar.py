"""Which words a small model knows, so that a person is told where its answer to a word means nothing.

An embedded CLIP was shown a few hundred concepts. It has a vector for any word, and where it was not taught the word
that vector lies anywhere, as close to some concept as that of a word it knows: how close it lies says little. So the
words themselves are listed. Once, for weights that are finished, a sentence encoder says which nouns mean something
near a concept, and the model is asked where it puts each of them:

    taken     nouns that it puts at a concept which is near them
    astray    nouns that it puts elsewhere; it knows something that means nearly the same, which can be offered

`familiar.json` beside the weights holds both, by the name of the nearest concept, and `concepts.json` the names. Where
there are only names, only names are known. Weights with neither say nothing about what they know.
tools/familiar_words.py makes the file; docs/log.md says how this rule compares with one on cosines.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg import files
from lexiseg.encoders.weights import read_json
from lexiseg.errors import WeightsError

__all__ = ["Familiar", "read_familiar", "write_familiar"]

NAMES, NOUNS = "concepts.json", "familiar.json"
SHORTEST = 5  # letters of a word that may be a misspelt name
NEXT = re.compile(r" (?:of|with|without|in|on|at|under|over|near|from|behind|beside|and|or|that|who) ")

Sorted = dict[str, list[str]]  # name of a concept -> nouns


@dataclass(frozen=True, eq=False)
class Familiar:
    """names: of the concepts, lower case. taken, astray: nouns, each with the concept that is nearest to it; None where
    nobody found out."""

    names: frozenset[str]
    taken: Mapping[str, str] | None = None
    astray: Mapping[str, str] | None = None

    def knows(self, word: str) -> bool:
        """Whether the model knows the word, its singular, or what a phrase is about: the car of "red cars at night"."""
        return any(form in self.names or form in (self.taken or ()) for form in _forms(word))

    def warnings(self, words: Sequence[str]) -> tuple[str, ...]:
        """A sentence for each word that the model does not know."""
        return _warnings(self, tuple(words))

    def reason(self, word: str) -> str:
        """What is wrong with a word that the model does not know, and what may be asked for in its place."""
        near = next((self.astray[form] for form in _forms(word) if self.astray and form in self.astray), None)
        if near is not None:
            return f"is no word that this model has learned, so its pixels mean little; it does know {near!r}"
        if (name := self._misspelt(" ".join(word.lower().split()))) is not None:
            return f"is no word that this model has learned; did you mean {name!r}?"
        if self.taken is None:
            return "is no word that this model has learned, so its pixels mean little"
        return "is far from everything that this model has seen, so its pixels mean nothing"

    def _misspelt(self, word: str) -> str | None:
        """A name that differs by a letter after the first, or by their order; of short words too many do."""
        if len(word) < SHORTEST:
            return None
        names = sorted(name for name in self.names if name[:1] == word[:1])
        return next((name for name in names if _is_typo(word, name)), None)


def read_familiar(folder: Path) -> Familiar | None:
    """What the weights in a folder know; None where nothing beside them says it.

    Raises `WeightsError` for files that cannot be read.
    """
    if not (folder / NAMES).is_file():
        return None
    try:
        names = frozenset(name.lower() for one in read_json(folder / NAMES)["names"] for name in one)
        if not (folder / NOUNS).is_file():
            return Familiar(names)
        nouns = read_json(folder / NOUNS)
        taken, astray = ({noun: to for to, own in nouns[kind].items() for noun in own} for kind in ("taken", "astray"))
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"what {folder} knows cannot be read ({error!r}); copy the model again") from error
    return Familiar(names, taken, astray)


def write_familiar(folder: Path, taken: Sorted, astray: Sorted, *, text_digest: str) -> None:
    """text_digest: `Clip.text_digest` of the weights beside it, to tell a list that has outlived them.

    Raises `OutputError`.
    """
    content = {"text_digest": text_digest, "taken": taken, "astray": astray}
    files.write_text(folder / NOUNS, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


@functools.lru_cache(maxsize=32)
def _warnings(familiar: Familiar, words: tuple[str, ...]) -> tuple[str, ...]:
    # once for a vocabulary, not for every photograph
    return tuple(f"{word!r} {familiar.reason(word)}" for word in words if not familiar.knows(word))


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
