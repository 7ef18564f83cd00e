"""Reads classes from Python's texts, lists and mappings.

They hold names, words and ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from numbers import Integral
from pathlib import PurePath
from typing import Any

from lexiseg.errors import VocabularyError
from lexiseg.words.entry import Entry, barred, by_id, clean, kind, refuse_separators, shown
from lexiseg.words.text import named, read_text

__all__ = ["entries", "number_of", "several", "words_of"]

ID = re.compile(r"[0-9]{1,6}")
LARGEST_ID = 999_999


def entries(given: object) -> list[Entry]:
    """The classes of a text, a list or a mapping; by id where ids are given. Raises `VocabularyError`."""
    if isinstance(given, str):
        return read_text(given)
    if isinstance(given, Mapping):
        return by_id(_mapping(given))
    _refuse_unordered(given)
    found = list(given)  # type: ignore[call-overload]
    if found and all(isinstance(entry, Mapping) for entry in found):
        return by_id([_described(entry, f"class {place}") for place, entry in enumerate(found, 1)])
    return [_listed(entry, f"class {place}") for place, entry in enumerate(found, 1)]


def several(given: object, where: str) -> tuple[str, ...]:
    """Words of one kind, such as a background's: a text with commas or bars, or a list."""
    if isinstance(given, str):
        try:
            return tuple(word for entry in read_text(given) for word in entry.words)
        except VocabularyError as error:
            raise VocabularyError(f"{where}: {error}") from error
    found = _sequence(given, where)
    for word in found:
        refuse_separators(word, where)
    return tuple(clean(word, where) for word in found)


def words_of(given: object, where: str) -> tuple[str, ...]:
    """The words of a class: a text with bars, or a list of words, which may then have commas."""
    if isinstance(given, str):
        return barred(given, where)
    words = tuple(clean(word, where) for word in _sequence(given, where))
    if not words:
        raise VocabularyError(f"{where} has no words; give at least one")
    return words


def _listed(given: object, where: str) -> Entry:
    if isinstance(given, str):
        return named(given, where)
    words = words_of(given, where)
    return Entry(words[0], words)


def _mapping(given: Mapping[Any, Any]) -> list[Entry]:
    ids = [_id_of(key, words) for key, words in given.items()]
    if given and None not in ids:
        return [_with_id(number, words) for number, words in zip(ids, given.values(), strict=True)]
    if any(number is not None for number in ids):
        key = next(key for key, number in zip(given, ids, strict=True) if number is not None)
        name = next(key for key, number in zip(given, ids, strict=True) if number is None)
        raise VocabularyError(f"{key!r} is a number and {name!r} is a name; let all keys be ids, or none")
    numbers = [number_of(value) for value in given.values()]
    if given and None not in numbers and list(given) != list(given.values()):
        names = [clean(key, "a class") for key in given]
        return [Entry(name, (name,), number) for name, number in zip(names, numbers, strict=True)]
    return [Entry(clean(name, "a class"), words_of(words, f"class {name!r}")) for name, words in given.items()]


def _id_of(key: object, words: object) -> int | None:
    """The id that a key is; None for a name, which "7" is too if it is the first word of its class."""
    first = words if isinstance(words, str) else next(iter(words), None) if isinstance(words, Sequence) else None
    return None if isinstance(key, str) and first == key else number_of(key)


def _with_id(number: int | None, given: object) -> Entry:
    where = f"class {number}"
    if isinstance(given, Mapping):
        return _described({"id": number, **given}, where)
    entry = _listed(given, where)
    return Entry(entry.name, entry.words, number)


def _described(given: Mapping[Any, Any], where: str) -> Entry:
    """{"id": 7, "name": "road", "synonyms": ["street"], "thing": false}, as classes.json and COCO have it."""
    if "name" not in given:
        raise VocabularyError(f"{where} is {shown(given)}, without a name; write it as {{'id': 7, 'name': 'road'}}")
    number, thing = given.get("id"), given.get("thing", given.get("isthing"))
    if number is not None and number_of(number) is None:
        raise VocabularyError(f"{where} has the id {shown(number)}; give a whole number from 0")
    refuse_separators(given["name"], where)
    name = clean(given["name"], where)
    others = [clean(word, where) for word in _sequence(given.get("synonyms") or (), where)]
    words = {word.casefold(): word for word in (*reversed(others), name)}  # the name's spelling stays
    order = dict.fromkeys(word.casefold() for word in (name, *others))
    return Entry(name, tuple(words[key] for key in order), number_of(number), None if thing is None else bool(thing))


def _sequence(given: object, where: str) -> Sequence[object]:
    if isinstance(given, AbstractSet):
        raise VocabularyError(f"{where} is a {type(given).__name__}, which has no order; give a list")
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray)):
        raise VocabularyError(f"{where} is {shown(given)}; give a word, or a list of words")
    return given


def number_of(given: object) -> int | None:
    """An id, written as a number or as a text."""
    if isinstance(given, str):
        return int(given) if ID.fullmatch(given.strip()) else None
    whole = isinstance(given, Integral) and not isinstance(given, bool)  # numpy's, too
    return int(given) if whole and 0 <= given <= LARGEST_ID else None  # type: ignore[call-overload, operator]


def _refuse_unordered(given: object) -> None:
    if isinstance(given, AbstractSet) and not isinstance(given, type({}.keys())):
        raise VocabularyError(
            f"the classes are a {type(given).__name__}, which has no order, and the order numbers the label map; "
            "give a list"
        )
    if isinstance(given, PurePath):
        raise VocabularyError(f"{given} is a file; read it with Vocabulary.from_file")
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
        raise VocabularyError(f"a vocabulary cannot be made of {kind(given)}; give a string, list or mapping")
