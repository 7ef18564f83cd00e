"""Reads the class names of label sets, in every paper's wording.

`classes/*.json` has a file for each label set.

A file lists the classes in order; each has a name, which is the same in all wordings and stands in results, its raw
ids in the official files, and the words that each wording prompts with. The tests pin a hash of each wording.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from lexiseg.data.labelled.layouts import LabelClass
from lexiseg.errors import UnknownName
from lexiseg.vocabulary import Vocabulary

__all__ = ["background_lists", "background_words", "class_sets", "classes", "with_background", "wordings"]

_IDS = ("id", "pixel", "png", "png59")  # the keys of a class that are raw ids; see each file's "about"
_BACKGROUNDS = "backgrounds"


def class_sets() -> list[str]:
    """The names of the label sets."""
    found = (file.name.partition(".") for file in (resources.files(__package__) / "classes").iterdir())
    return sorted(name for name, _, suffix in found if suffix == "json" and name != _BACKGROUNDS)


def wordings(class_set: str) -> dict[str, str]:
    """What each wording of a label set is; the first is its own."""
    return dict(_load(class_set)["lists"])


def classes(class_set: str, wording: str) -> tuple[LabelClass, ...]:
    """The classes with the words of one wording; raises `UnknownName` for a wording the label set does not have."""
    data = _load(class_set)
    if wording not in data["lists"]:
        raise UnknownName("wording", wording, data["lists"])
    return tuple(_class(entry, wording) for entry in data["classes"])


def background_lists() -> dict[str, str]:
    """Names of the background word lists and where each comes from."""
    return {name: str(entry["source"]) for name, entry in _load(_BACKGROUNDS)["lists"].items()}


def background_words(name: str) -> tuple[str, ...]:
    """The words that stand for "none of the classes" in the list `name`; raises `UnknownName`."""
    lists = _load(_BACKGROUNDS)["lists"]
    if name not in lists:
        raise UnknownName("background list", name, lists)
    return tuple(lists[name]["words"])


def with_background(vocabulary: Vocabulary, background: str, *, as_published: bool = False) -> Vocabulary:
    """The classes with background words: the name of a list, "auto", or the words.

    as_published: keep words that are words of a class. In any other case they are left out, since no class stands for
        what is none of the classes.
    """
    found = vocabulary.with_background(background_words(background) if background in background_lists() else background)
    if as_published:
        return found
    asked = {word.casefold() for words in vocabulary.words for word in words}
    return found.with_background([word for word in found.background if word.casefold() not in asked])


@cache
def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files(__package__) / "classes" / f"{name}.json").read_text("utf-8"))
    return content


def _class(entry: dict[str, Any], wording: str) -> LabelClass:
    words = entry.get(wording, entry["name"])
    return LabelClass(
        name=entry["name"],
        ids={key: entry[key] for key in _IDS if key in entry},
        words=(words,) if isinstance(words, str) else tuple(words),
        thing=entry.get("thing"),
    )
