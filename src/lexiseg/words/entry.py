"""Holds one class as it was given, and spells its words."""

from __future__ import annotations

import re
import reprlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from lexiseg.errors import VocabularyError

__all__ = ["Entry", "barred", "by_id", "clean", "kind", "refuse_repeats", "refuse_separators", "shown"]

LONGEST = 500  # letters of a word; a sentence of 77 tokens has fewer
MARKS = {",": "comma", ";": "semicolon", "\n": "line break", "\t": "tab"}
QUOTES = {'"': '"', "'": "'", "“": "”"}
JOINERS = "\u200c\u200d"  # not seen either, but emoji and some scripts are written with them
JOINED = r"[^\s\u0000-\u02ff\u2000-\u206f]"  # neither blanks nor Latin letters
UNNEEDED = re.compile(rf"(?<={JOINED})([{JOINERS}])[{JOINERS}]*(?={JOINED})|[{JOINERS}]")

_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother, _repr.maxlist = 2, 60, 60, 4


@dataclass(frozen=True)
class Entry:
    """One class as it was given.

    name: what results call it.
    words: at least one, usually the name among them.
    id: the number it has in label maps; None where none was given.
    thing: whether it is countable; None where nothing says it.
    """

    name: str
    words: tuple[str, ...]
    id: int | None = None
    thing: bool | None = None


def by_id(found: Sequence[Entry]) -> list[Entry]:
    """In the order of the ids, which all or none must have."""
    ids = [entry.id for entry in found if entry.id is not None]
    if not ids:
        return list(found)
    if len(ids) < len(found):
        without = next(entry.name for entry in found if entry.id is None)
        raise VocabularyError(f"{without!r} has no id and other classes have one; give all of them an id, or none")
    first: dict[int, str] = {}
    for entry in found:
        assert entry.id is not None
        if entry.id in first:
            raise VocabularyError(f"{first[entry.id]!r} and {entry.name!r} have the same id {entry.id}; change one")
        first[entry.id] = entry.name
    return sorted(found, key=lambda entry: entry.id or 0)


def clean(word: object, where: str) -> str:
    """A word in one spelling: Unicode's composed form, single blanks, nothing that cannot be seen."""
    if not isinstance(word, str):
        raise VocabularyError(f"{where} holds {shown(word)}, which is {kind(word)}, not a word; put it in quotes")
    if any("\ud800" <= letter <= "\udfff" for letter in word):
        raise VocabularyError(f"{where} holds {word!r}, which is not text; write it in UTF-8")
    cleaned = _visible(word)
    if not cleaned:
        raise VocabularyError(f"{where} holds a blank word; remove it, or a comma or bar too many")
    if len(cleaned) > LONGEST:
        raise VocabularyError(f"{where} has {len(cleaned):,} letters ({shown(cleaned)}); is this a list of words?")
    return cleaned


def _visible(word: str) -> str:
    if word.isascii() and word.isprintable():
        return " ".join(word.split())
    kept = (
        letter
        for letter in word
        if letter.isspace() or letter in JOINERS or unicodedata.category(letter) not in ("Cc", "Cf")
    )
    joined = UNNEEDED.sub(r"\1", "".join(kept))
    cleaned = " ".join(unicodedata.normalize("NFC", joined).split())
    return cleaned if cleaned == word else _visible(cleaned)  # what is gone may have stood between two that compose


def barred(text: str, where: str) -> tuple[str, ...]:
    """The words of one class, in a text with bars between them."""
    refuse_separators(text, where)
    return tuple(clean(_unquoted(word.strip(), where), where) for word in text.split("|"))


def refuse_separators(text: object, where: str) -> None:
    """Raises `VocabularyError` for a text that may be several classes, or several words of one class."""
    mark = next((mark for mark in MARKS if isinstance(text, str) and mark in text.strip()), None)
    if mark is not None:
        raise VocabularyError(
            f"{where} is {shown(text)}: does the {MARKS[mark]} stand between classes, or between words of one class? "
            "Give each class a line or an entry of its own, and put bars (|) between its words"
        )


def refuse_repeats(kind: str, words: Sequence[str]) -> None:
    """Raises `VocabularyError` for a word that is given twice."""
    # CLIP's tokenizer lower-cases, so "Car" and "car" would be the same vector twice
    first: dict[str, str] = {}
    for word in words:
        folded = word.casefold()
        if folded in first:
            alike = f" and {word!r}" if word != first[folded] else ""
            raise VocabularyError(f"the {kind} {first[folded]!r}{alike} is given twice; remove one of them")
        first[folded] = word


def _unquoted(word: str, where: str) -> str:
    if len(word) > 1 and QUOTES.get(word[0]) == word[-1]:
        return word[1:-1]
    if word.startswith('"'):
        raise VocabularyError(f"{where} is {shown(word)}, with a quote that does not end; remove it")
    return word


def shown(value: object) -> str:
    """A value in a message, however large it is."""
    return _repr.repr(value)


def kind(value: object) -> str:
    return "null" if value is None else "a number" if isinstance(value, (int, float)) else type(value).__name__
