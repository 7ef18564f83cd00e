"""Holds what a person looks for as ordered classes of words.

Each has one or more words.

Synonyms and background words are one mechanism: several words vote for one class, and the background is one more
class, whose pixels the label map leaves unlabelled.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lexiseg.errors import UnknownName, VocabularyError
from lexiseg.words import files
from lexiseg.words.background import AUTO, AUTO_BACKGROUND, auto_background
from lexiseg.words.entry import Entry, clean, refuse_repeats, shown
from lexiseg.words.files import WordList
from lexiseg.words.text import named
from lexiseg.words.values import entries, several

__all__ = ["MAX_CLASSES", "Vocabulary", "Words"]

_logger = logging.getLogger(__name__)

MAX_CLASSES = 65_535  # label maps are uint16 at most, and 65535 means "none of them"


@dataclass(frozen=True, init=False)
class Vocabulary:
    """Ordered classes, the words of each, and optional background words.

    classes: one of
        "road, car, person|pedestrian"            commas between classes, bars between the words of one class
        ["road", "person|pedestrian"]             a class each
        [("person", "pedestrian"), "road"]        a class each, its words in a tuple
        {"person": ("person", "pedestrian")}      the class's name, and the words that stand for it
        {7: "road", 12: "car"}                    ids and words; the classes are ordered by id
        a Vocabulary                              its classes, and its background, seen and shared_words unless given
        `words` tells what else is understood; `from_file` reads files.
    background: words for everything that is none of the classes; pixels they win stay unlabelled. A text or a list, or
        "auto" for a published list of words without those of the classes (`words.background`).
    seen: for each class whether a model was trained on it; None where nothing says it.
    shared_words: allow one word in two classes, as some benchmarks do; the first class wins the ties.

    Words are kept in Unicode's composed form, with single blanks and without characters that cannot be seen.

    Raises `VocabularyError` for no classes, blank or repeated words, more than 65,535 classes, a set, which has no
    order, and anything that could mean two things.

    >>> import lexiseg
    >>> words = lexiseg.Vocabulary("road, car, person|pedestrian", background="wall, tree")
    >>> words.names
    ('road', 'car', 'person')
    >>> words.words[2]
    ('person', 'pedestrian')
    >>> words.index("pedestrian"), len(words), words.channels
    (2, 3, 4)
    >>> lexiseg.Vocabulary({"vehicle": ("car", "bus"), "road": ("road", "street")}).as_texts()
    ('vehicle: car|bus', 'road|street')
    """

    names: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    background: tuple[str, ...]
    seen: tuple[bool, ...] | None
    shared_words: bool

    def __init__(
        self,
        classes: Words,
        *,
        background: str | Sequence[str] = (),
        seen: Sequence[bool] | None = None,
        shared_words: bool = False,
    ) -> None:
        found: WordList
        if isinstance(classes, Vocabulary):
            found = classes._list()
        else:
            found = files.parse(classes) if isinstance(classes, str) else WordList(tuple(entries(classes)))
        self._fill(
            found.entries,
            background or found.background,
            found.seen if seen is None else seen,
            shared_words or found.shared_words,
        )

    def _fill(
        self,
        classes: Sequence[Entry],
        background: str | Sequence[str],
        seen: Sequence[bool] | None,
        shared_words: bool,
    ) -> None:
        put = object.__setattr__
        put(self, "names", tuple(entry.name for entry in classes))
        put(self, "words", tuple(entry.words for entry in classes))
        put(self, "background", _background(background, [word for entry in classes for word in entry.words]))
        put(self, "seen", _flags(seen))
        put(self, "shared_words", shared_words)
        self._check()
        if (note := _about_ids(classes)) is not None:
            _say(note)

    def _list(self) -> WordList:
        classes = tuple(Entry(name, words) for name, words in zip(self.names, self.words, strict=True))
        return WordList(classes, self.background, self.seen, self.shared_words)

    @classmethod
    def _of(cls, found: WordList) -> Vocabulary:
        made = object.__new__(cls)
        made._fill(found.entries, found.background, found.seen, found.shared_words)
        return made

    @classmethod
    def of(cls, words: Words) -> Vocabulary:
        """Returns `words` itself where it is a vocabulary already, else the vocabulary made of it."""
        return words if isinstance(words, Vocabulary) else cls(words)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Reads a file of words: text, JSON, YAML or CSV, as `words.files` tells.

        Raises `VocabularyError`, which names the file.
        """
        found = files.read(path)
        try:
            return cls._of(found)
        except VocabularyError as error:
            raise VocabularyError(f"{os.fspath(path)}: {error}") from error

    def __len__(self) -> int:
        return len(self.names)

    @property
    def queries(self) -> tuple[str, ...]:
        """All words in order [Q], those of the background last."""
        return tuple(word for words in self.words for word in words) + self.background

    @property
    def chosen(self) -> tuple[str, ...]:
        """The words that a person chose: all but those of the list that "auto" stands for."""
        own = (word for words in self.words for word in words)
        return (*own, *(word for word in self.background if word not in AUTO_BACKGROUND))

    @property
    def class_of(self) -> tuple[int, ...]:
        """The channel of each query [Q]; background words have channel C."""
        classes = tuple(index for index, words in enumerate(self.words) for _ in words)
        return classes + (len(self),) * len(self.background)

    @property
    def channels(self) -> int:
        """C, or C + 1 where there are background words; the background is the last channel."""
        return len(self) + bool(self.background)

    @property
    def digest(self) -> str:
        """Hash of classes, words, order and background: two scores compare only where it is equal."""
        content = json.dumps([self.names, self.words, self.background], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def index(self, name: str) -> int:
        """The place of a class, by its name or by any of its words.

        Raises `UnknownName` (a `KeyError` too) for anything else.
        """
        cleaned = clean(name, "the class") if name.strip() else name
        if cleaned in self.names:
            return self.names.index(cleaned)
        for index, words in enumerate(self.words):
            if cleaned in words:
                return index
        raise UnknownName("class", name, self.names)

    def with_background(self, background: str | Sequence[str]) -> Vocabulary:
        """The same classes with other background words; "auto" as in the constructor."""
        made = object.__new__(Vocabulary)
        made._fill(self._list().entries, background, self.seen, self.shared_words)
        return made

    def only(self, places: Sequence[int]) -> Vocabulary:
        """The classes at these places, in their order, with their flags; without the background."""
        classes = self._list().entries
        seen = None if self.seen is None else [self.seen[place] for place in places]
        made = object.__new__(Vocabulary)
        made._fill([classes[place] for place in places], (), seen, True)
        return made

    def as_texts(self) -> tuple[str, ...]:
        """A text for each class, "vehicle: car|bus", of which `Vocabulary` makes the same classes.

        Raises `VocabularyError` for words with commas and the like, which a text cannot hold.
        """
        texts = tuple(
            ("" if name == words[0] else f"{name}: ") + "|".join(words)
            for name, words in zip(self.names, self.words, strict=True)
        )
        for name, words, text in zip(self.names, self.words, texts, strict=True):
            made = named(text, f"class {name!r}")
            if (made.name, made.words) != (name, words):
                raise VocabularyError(f"class {name!r} cannot be written as one text; its words are {shown(words)}")
        return texts

    def to_json(self) -> dict[str, Any]:
        """What `from_json` and `from_file` read back."""
        return {
            "classes": {name: list(words) for name, words in zip(self.names, self.words, strict=True)},
            "background": list(self.background),
            "seen": None if self.seen is None else list(self.seen),
            "shared_words": self.shared_words,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Vocabulary:
        """Raises `VocabularyError` for anything but what `to_json` gives."""
        return cls._of(files.exactly(data))

    def _check(self) -> None:
        if not self.names:
            raise VocabularyError("there are no classes; name at least one, for example 'road, car, sky'")
        if len(self) > MAX_CLASSES:
            raise VocabularyError(
                f"{len(self):,} classes are more than a label map can hold; give at most {MAX_CLASSES:,}"
            )
        if self.seen is not None and len(self.seen) != len(self):
            raise VocabularyError(f"`seen` has {len(self.seen)} flags for {len(self)} classes; give one for each")
        refuse_repeats("class", self.names)
        if self.shared_words:
            for words in self.words:
                refuse_repeats("word", words)
            refuse_repeats("word", self.background)
        else:
            refuse_repeats("word", self.queries)


Words = str | Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]] | Mapping[int, str] | Vocabulary


def _background(given: str | Sequence[str], queries: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str) and given.strip().lower() == AUTO:
        return auto_background(queries)
    return several(() if given is None else given, "the background")


def _flags(seen: Sequence[bool] | None) -> tuple[bool, ...] | None:
    if isinstance(seen, str) or not isinstance(seen, Iterable | None):
        raise VocabularyError(f"`seen` is {seen!r}; give a list with true or false for each class")
    return None if seen is None else tuple(bool(flag) for flag in seen)


def _about_ids(classes: Sequence[Entry]) -> str | None:
    """What must be said where ids were given and are not the numbers of the label map."""
    ids = [entry.id for entry in classes]
    if None in ids or ids == list(range(len(ids))):
        return None
    few = ", ".join(f"{place} is {entry.name!r} (id {entry.id})" for place, entry in enumerate(classes[:3]))
    more = ", ..." if len(ids) > 3 else ""
    return f"label maps number the classes from 0 in the order of their ids: {few}{more}"


@functools.lru_cache(maxsize=64)  # once, not for every photograph
def _say(note: str) -> None:
    _logger.warning(note)
