"""Reads files of words: plain text, JSON, YAML and CSV.

They may be in any Unicode encoding that says which it is.

    text    as `words` reads it: a class a line, or separated by commas
    JSON    a list or mapping, alone or under "classes", "names" (YOLO), "categories" (COCO) or "id2label"; what
            `Vocabulary.to_json` gives; a `classes.json` of a folder of one's own, with "ignore"
    YAML    the same, and every scalar is a text, so that "no" and "on" stay words
    CSV     with a header that calls one column name, class, label or category, and perhaps another id; or one column

A text that begins with a bracket or brace is read as JSON or YAML, whatever its name.
"""

from __future__ import annotations

import codecs
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lexiseg.errors import VocabularyError
from lexiseg.words.background import AUTO
from lexiseg.words.entry import Entry, clean, shown
from lexiseg.words.tables import has_header, read_table
from lexiseg.words.values import entries, number_of, several, words_of

__all__ = ["WordList", "exactly", "parse", "read"]

LARGEST = 16_000_000  # bytes
DEEPEST = 20  # brackets in brackets
MARKS = (  # UTF-32's begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WRAPPERS = ("classes", "names", "categories", "id2label")
OURS = ("classes", "background", "seen", "shared_words", "ignore")


@dataclass(frozen=True)
class WordList:
    """What a text or file says.

    numbered: whether label maps have the ids of the classes, or their places in a list; a mapping of names has neither.
    ignore: ids of label maps that are not scored.
    """

    entries: tuple[Entry, ...]
    background: str | tuple[str, ...] = ()
    seen: tuple[bool, ...] | None = None
    shared_words: bool = False
    ignore: tuple[int, ...] = ()
    numbered: bool = True


def read(path: str | os.PathLike[str]) -> WordList:
    """The words of a file, by its suffix and content. Raises `VocabularyError`, which names the file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VocabularyError(
            f"cannot read the words in {path}: {reason}; give a file of text, JSON, YAML or CSV"
        ) from error
    try:
        return parse(_decoded(content), path.suffix)
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from error


def parse(text: str, suffix: str = "") -> WordList:
    """The words of a text. suffix: of the file that it is from. Raises `VocabularyError`."""
    begins = text.lstrip("\ufeff \t\r\n")[:1]
    suffix = suffix.lower()
    if suffix == ".json":
        return _structure(_json(text))
    if suffix in (".yaml", ".yml"):
        data = _yaml(text)  # which folds lines of plain text into one
        return parse(text) if isinstance(data, str) else _structure(data)
    if begins in tuple("[{"):
        return _structure(_json_or_yaml(text))
    if suffix in (".csv", ".tsv") or has_header(text):
        return WordList(tuple(read_table(text)))
    return WordList(tuple(entries(text)))


def _decoded(content: bytes) -> str:
    if len(content) > LARGEST:
        raise VocabularyError(f"the file has more than {LARGEST // 1_000_000} MB; is this a list of words?")
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise VocabularyError(f"this is not {encoding.upper()} text ({error}); save the words as UTF-8 text") from error
    if text.count("\0") > len(text) // 4:
        raise VocabularyError("every other byte is 0, as in UTF-16 without a mark; save the words as UTF-8 text")
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text.lstrip("\ufeff"), object_pairs_hook=_unique)
    except RecursionError as error:
        raise VocabularyError("the JSON is nested too deeply for a list of words") from error
    except VocabularyError:
        raise
    except ValueError as error:  # a `JSONDecodeError`, or a number of thousands of digits
        raise VocabularyError(
            f"this is not JSON ({error}); mend it, or name the file .txt, one class a line"
        ) from error


def _json_or_yaml(text: str) -> Any:
    """JSON, or what YAML allows besides: ['road', car]."""
    try:
        return _json(text)
    except VocabularyError as error:
        if not isinstance(error.__cause__, json.JSONDecodeError):
            raise
        try:
            return _yaml(text)
        except VocabularyError:
            raise error from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise VocabularyError(f"{shown(key)} is given twice; give each class one entry with all of its words")
        found[key] = value
    return found


def _yaml(text: str) -> Any:
    """Lists, mappings and texts; a scalar is the text that was written, and a key may stand in a mapping once."""
    import yaml

    def value(node: Any) -> Any:
        if id(node) not in made:  # an alias stands for the node it names, and a file may have millions of them
            made[id(node)] = (
                _unique([(value(key), value(inner)) for key, inner in node.value])
                if isinstance(node, yaml.MappingNode)
                else [value(inner) for inner in node.value]
                if isinstance(node, yaml.SequenceNode)
                else node.value
            )
        return made[id(node)]

    made: dict[int, Any] = {}
    if _depth(text) > DEEPEST:  # PyYAML takes the square of the depth
        raise VocabularyError("the YAML is nested too deeply for a list of words")
    try:
        root = yaml.compose(text.lstrip("\ufeff"), yaml.BaseLoader)
        return [] if root is None else value(root)
    except RecursionError as error:
        raise VocabularyError("the YAML is nested too deeply for a list of words") from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        if isinstance(error, VocabularyError):
            raise
        reason = " ".join(str(error).split())
        raise VocabularyError(
            f"this is not YAML ({reason}); mend it, or name the file .txt, one class a line"
        ) from error


def _depth(text: str) -> int:
    """How many brackets and braces are open at once, at most."""
    steps = (1 if letter in "[{" else -1 for letter in text if letter in "[]{}")
    return max(itertools.accumulate(steps), default=0)


def _structure(data: Any) -> WordList:
    if isinstance(data, Mapping):
        if isinstance(inner := data.get("vocabulary"), Mapping):  # what a `Segmentation` writes beside its label map
            data = inner
        key = next((name for name in WRAPPERS if isinstance(data.get(name), (list, dict, str))), None)
        if key == "classes":
            return _ours(data)
        if key is not None:  # other programs' files have other keys, too
            return _with_flags(data[key], {})
    return _with_flags(data, {})


def _entries(data: object) -> Sequence[Entry]:
    return parse(data).entries if isinstance(data, str) else entries(data)


def _ours(data: Mapping[str, Any]) -> WordList:
    if unknown := [str(key) for key in data if key not in OURS]:
        raise VocabularyError(f"there are keys without a meaning: {', '.join(unknown)}; remove them")
    if "shared_words" in data and isinstance(data["classes"], Mapping):
        return exactly(data)
    return _with_flags(data["classes"], data)


def exactly(data: Mapping[str, Any]) -> WordList:
    """What `Vocabulary.to_json` gave: names and words, in order, even where a name consists of digits."""
    classes = data.get("classes")
    if not isinstance(classes, Mapping):
        raise VocabularyError(f"`classes` is {shown(classes)}; give what Vocabulary.to_json returned")
    found = [Entry(clean(name, "a class"), words_of(words, f"class {name!r}")) for name, words in classes.items()]
    return replace(_with_flags([], data), entries=tuple(found), numbered=False)


def _with_flags(classes: object, data: Mapping[str, Any]) -> WordList:
    found = _entries(classes)
    have_ids = any(entry.id is not None for entry in found)
    seen, background = data.get("seen"), data.get("background") or ()
    if not isinstance(seen, list | None):
        raise VocabularyError(f"`seen` is {shown(seen)}; give a list with true or false for each class")
    if seen and have_ids:
        raise VocabularyError("`seen` follows the order of a list, and these classes have ids; give a list of classes")
    return WordList(
        entries=tuple(found),
        background=AUTO if background == AUTO else several(background, "the background"),
        seen=None if seen is None else tuple(_flag(flag) for flag in seen),
        shared_words=_flag(data.get("shared_words", False)),
        ignore=_ids(data.get("ignore")),
        numbered=have_ids or not isinstance(classes, Mapping),
    )


def _ids(given: object) -> tuple[int, ...]:
    given_ids = given if isinstance(given, list) else [] if given is None else [given]
    ids = [number_of(one) for one in given_ids]
    if None in ids:
        raise VocabularyError(f"`ignore` is {shown(given)}; give an id of the label maps, or a list of ids")
    return tuple(number for number in ids if number is not None)


def _flag(given: object) -> bool:
    return given.lower() == "true" if isinstance(given, str) else bool(given)
