"""Compares what decides a number, as nested JSON values.

The same facts give the same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["difference", "differences", "flat"]

ABSENT = "(not there)"
HASHES = {  # what a person calls the facts that are hashes
    "benchmark.class_digest": "the classes or their words",
    "benchmark.ids_digest": "the ids of the classes",
    "words": "the words that were asked for",
    "settings.prompts": "the prompts",
    "settings.weights_digest": "the weights",
}


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """The first thing that differs, in words; empty where nothing does."""
    for key, then, now in differences(first, second):
        return f"{HASHES[key]} differ" if key in HASHES else f"{key} was {then!r} and is {now!r}"
    return ""


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, value in the first, value in the second) for each that differs, in the order of the first."""
    one, other = dict(flat(first)), dict(flat(second))
    keys = [*one, *(key for key in other if key not in one)]
    found = ((key, one.get(key, ABSENT), other.get(key, ABSENT)) for key in keys)
    return [(key, a, b) for key, a, b in found if a != b]


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted key; lists are leaves."""
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
