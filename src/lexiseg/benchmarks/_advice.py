"""Advises how classes.json can settle what a class list leaves open."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from lexiseg.data.labelled.layouts import LabelClass

__all__ = ["doubtful", "questions"]

REST = ("background", "bg", "none", "nothing", "other", "others", "rest", "else", "everything else", "misc")
UNSCORED = ("unlabeled", "unlabelled", "void", "ignore", "ignored", "undefined", "unknown", "dontcare", "don't care")
MOST = 6  # classes that a suggestion spells out


def doubtful(name: str) -> bool:
    """Whether a name may stand for something else than a class to look for."""
    return _plain(name) in (*REST, *UNSCORED) and name.casefold() != "background"


def questions(classes: Sequence[LabelClass], found: Collection[int]) -> list[str]:
    """What only the person who labelled the photographs knows, and what to write in either case.

    found: the raw ids in the label maps.
    """
    asked = [_about(label, classes) for label in classes if doubtful(label.name)]
    return asked + _of_masks(classes, found) + _from_one(classes, found)


def _about(label: LabelClass, classes: Sequence[LabelClass]) -> str:
    number = label.ids["id"]
    others = {one.ids["id"]: one.name for one in classes if one is not label}
    rest = next((other for other, name in others.items() if name.casefold() == "background"), None)
    named = f"write {_json({**others, number: 'background'})}" if rest is None else f"give its pixels the id {rest}"
    return (
        f"what is {label.name!r} (id {number})? It is asked for by this word now. If it is everything that is none of "
        f"the classes, {named}. If its pixels are not to be scored, write {_json(others, ignore=number)}"
    )


def _of_masks(classes: Sequence[LabelClass], found: Collection[int]) -> list[str]:
    """255 is what pictures of two colours have, and it is ignored."""
    if not {255} < {*found} <= {0, 255} or any(label.ids["id"] == 255 for label in classes):
        return []
    names = [label.name for label in classes if label.name.casefold() != "background"]
    written = _json({0: "background", 255: names[-1] if names else "NAME"})
    return [f"the label maps hold 0 and 255 alone, and 255 is not scored. If 255 is a class, write {written}"]


def _from_one(classes: Sequence[LabelClass], found: Collection[int]) -> list[str]:
    """A list numbers its classes from 0, and many tools number them from 1."""
    numbers, highest = [label.ids["id"] for label in classes], len(classes)
    used = {number for number in found if number not in (255, 65535)}
    if numbers != list(range(highest)) or max(used, default=0) != highest:
        return []
    shifted = {number + 1: label.name for number, label in zip(numbers, classes, strict=True)}
    zero = f", and 0, which is not a class; {_json(shifted, ignore=0)} leaves it out" if 0 in used else ""
    return [
        f"the label maps hold ids up to {highest}, and the list has them from 0 to {highest - 1}. "
        f"If they begin at 1, write {_json(shifted)}{zero}"
    ]


def _json(classes: dict[int, str], *, ignore: int | None = None) -> str:
    few = {str(number): name for number, name in sorted(classes.items())[:MOST]}
    text = json.dumps(few, ensure_ascii=False)
    text = f"{text[:-1]}, ...}}" if len(classes) > MOST else text
    return text if ignore is None else f'{{"classes": {text}, "ignore": [{ignore}]}}'


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
