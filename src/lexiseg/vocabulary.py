"""Vocabulary: what a person looks for, as ordered classes of one or more words each.

Synonyms and background words are one mechanism: several words vote for one class, and the background is one more
class, whose pixels the label map leaves unlabelled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.errors import UnknownName, VocabularyError

__all__ = ["MAX_CLASSES", "Vocabulary", "Words"]

MAX_CLASSES = 65_535  # label maps are uint16 at most, and 65535 means "none of them"


@dataclass(frozen=True, init=False)
class Vocabulary:
    """Ordered classes, the words of each, and optional background words.

    classes: one of
        "road, car, person|pedestrian"            commas between classes, bars between the words of one class
        ["road", "person|pedestrian"]             a class each
        [("person", "pedestrian"), "road"]        a class each, its words in a tuple
        {"person": ("person", "pedestrian")}      the class's name, and the words that stand for it
        a Vocabulary                              its classes, and its background, seen and shared_words unless given
    background: words for everything that is none of the classes ("sky, wall"); pixels they win stay unlabelled.
    seen: for each class whether a model was trained on it; None where nobody says.
    shared_words: allow one word in two classes, as some benchmarks do; the first class wins the ties.

    Raises `VocabularyError` for no classes, blank or repeated words, and more than 65,535 classes.
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
        pairs = _pairs(classes)
        if isinstance(classes, Vocabulary):
            background, seen = background or classes.background, classes.seen if seen is None else seen
            shared_words = shared_words or classes.shared_words
        put = object.__setattr__
        put(self, "names", tuple(name for name, _ in pairs))
        put(self, "words", tuple(words for _, words in pairs))
        put(self, "background", _background(background))
        put(self, "seen", _flags(seen))
        put(self, "shared_words", shared_words)
        self._check()

    @classmethod
    def of(cls, words: Words) -> Vocabulary:
        """Returns `words` itself where it is a vocabulary already, else the vocabulary made of it."""
        return words if isinstance(words, Vocabulary) else cls(words)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Reads a text file (one class a line, `#` starts a comment) or a JSON file.

        The JSON is a list of classes, a mapping of class to words, or
        {"classes": ..., "background": [...], "seen": [...], "shared_words": true}, as `to_json` gives it.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise VocabularyError(
                f"cannot read the words in {path}: {error}; give a UTF-8 text or JSON file"
            ) from error
        if path.suffix.lower() != ".json":
            lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
            return cls([line for line in lines if line])
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise VocabularyError(
                f"{path} is not JSON ({error}); fix it, or name the file .txt, one class a line"
            ) from error
        if isinstance(data, dict) and isinstance(data.get("classes"), (list, dict, str)):
            unknown = set(data) - {"classes", "background", "seen", "shared_words"}
            if unknown:
                raise VocabularyError(f"{path} has keys nobody reads: {', '.join(sorted(unknown))}; remove them")
            return cls(
                data["classes"],
                background=data.get("background", ()),
                seen=data.get("seen"),
                shared_words=bool(data.get("shared_words", False)),
            )
        return cls(data)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def queries(self) -> tuple[str, ...]:
        """All words in order [Q], those of the background last."""
        return tuple(word for words in self.words for word in words) + self.background

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
        if name in self.names:
            return self.names.index(name)
        for index, words in enumerate(self.words):
            if name in words:
                return index
        raise UnknownName("class", name, self.names)

    def with_background(self, background: str | Sequence[str]) -> Vocabulary:
        """The same classes with other background words."""
        pairs = dict(zip(self.names, self.words, strict=True))
        return Vocabulary(pairs, background=background, seen=self.seen, shared_words=self.shared_words)

    def only(self, places: Sequence[int]) -> Vocabulary:
        """The classes at these places, in their order, with their flags; without the background."""
        pairs = {self.names[place]: self.words[place] for place in places}
        seen = None if self.seen is None else [self.seen[place] for place in places]
        return Vocabulary(pairs, seen=seen, shared_words=True)

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
        return cls(
            data["classes"],
            background=data.get("background", ()),
            seen=data.get("seen"),
            shared_words=data.get("shared_words", False),
        )

    def _check(self) -> None:
        if not self.names:
            raise VocabularyError("there are no classes; name at least one, for example 'road, car, sky'")
        if len(self) > MAX_CLASSES:
            raise VocabularyError(
                f"{len(self):,} classes are more than a label map can hold; give at most {MAX_CLASSES:,}"
            )
        if self.seen is not None and len(self.seen) != len(self):
            raise VocabularyError(f"`seen` has {len(self.seen)} flags for {len(self)} classes; give one for each")
        _refuse_repeats("class", self.names)
        if self.shared_words:
            for words in self.words:
                _refuse_repeats("word", words)
            _refuse_repeats("word", self.background)
        else:
            _refuse_repeats("word", self.queries)


Words = str | Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]] | Vocabulary


def _pairs(classes: Words) -> list[tuple[str, tuple[str, ...]]]:
    """(name, words) of each class."""
    if isinstance(classes, Vocabulary):
        return list(zip(classes.names, classes.words, strict=True))
    if isinstance(classes, str):
        classes = classes.split(",")
    if isinstance(classes, Mapping):
        return [(_clean(name, "a class"), _split(words, f"class {name!r}")) for name, words in classes.items()]
    if not isinstance(classes, Iterable):
        raise VocabularyError(
            f"a vocabulary cannot be made of {type(classes).__name__}; give a string, list or mapping"
        )
    words_of_each = [_split(words, f"class {place}") for place, words in enumerate(classes, start=1)]
    return [(words[0], words) for words in words_of_each]


def _split(words: object, where: str) -> tuple[str, ...]:
    if isinstance(words, str):
        words = words.split("|")
    if not isinstance(words, Sequence) or isinstance(words, (bytes, bytearray)):
        raise VocabularyError(f"{where} is {words!r}; give a word, or a list of words")
    if not words:
        raise VocabularyError(f"{where} has no words; give at least one")
    return tuple(_clean(word, where) for word in words)


def _background(background: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(background, str):
        background = background.replace("|", ",").split(",") if background.strip() else ()
    background = background or ()
    if not isinstance(background, Sequence):
        raise VocabularyError(f"the background is {background!r}; give a string, or a list of words")
    return tuple(_clean(word, "the background") for word in background)


def _flags(seen: Sequence[bool] | None) -> tuple[bool, ...] | None:
    if isinstance(seen, str) or not isinstance(seen, Iterable | None):
        raise VocabularyError(f"`seen` is {seen!r}; give a list with true or false for each class")
    return None if seen is None else tuple(bool(flag) for flag in seen)


def _clean(word: object, where: str) -> str:
    if not isinstance(word, str):
        raise VocabularyError(f"{where} holds {word!r}, which is {type(word).__name__}, not a word; put it in quotes")
    cleaned = " ".join(word.split())
    if not cleaned:
        raise VocabularyError(f"{where} holds a blank word; remove it, or a comma or bar too many")
    if any("\ud800" <= letter <= "\udfff" for letter in cleaned):
        raise VocabularyError(f"{where} holds {word!r}, which is not text; write it in UTF-8")
    return cleaned


def _refuse_repeats(kind: str, words: Sequence[str]) -> None:
    # CLIP's tokenizer lower-cases, so "Car" and "car" would be the same vector twice
    first: dict[str, str] = {}
    for word in words:
        folded = word.casefold()
        if folded in first:
            alike = f" and {word!r}" if word != first[folded] else ""
            raise VocabularyError(f"the {kind} {first[folded]!r}{alike} is given twice; remove one of them")
        first[folded] = word
