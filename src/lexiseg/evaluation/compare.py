"""Tells what differs between two evaluations, before which number is higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lexiseg.evaluation.facts import differences as facts_that_differ
from lexiseg.evaluation.result import Result, flags
from lexiseg.metrics.bootstrap import Bootstrap, Difference, differences

__all__ = ["Comparison", "compare"]

CIRCUMSTANCES = ("commit", "machine", "versions", "processes")


@dataclass(frozen=True)
class Comparison:
    """settings: (name, in the first, in the second) of all that decides a number and differs.
    circumstances: the same for commit, machine and versions, which should not matter.
    scores: first minus second with the 95 % interval of a paired bootstrap over the images; empty where the two were
        not measured on the same pixels, for the reason given.
    """

    settings: list[tuple[str, Any, Any]]
    circumstances: list[tuple[str, Any, Any]]
    scores: dict[str, Difference]
    reason: str = ""


def compare(first: Result, second: Result) -> Comparison:
    """Compares two evaluations of one benchmark; of different ones, only the settings."""
    reason = _not_comparable(first, second)
    scores: dict[str, Difference] = {}
    if not reason:
        images = first.tallies.confusion.images, second.tallies.confusion.images
        classes = len(first.classes)
        bootstrap = Bootstrap(classes, flags(first.subsets, classes), first.facts["protocol"]["average"])
        scores = differences(*images, bootstrap)
    around = [{key: result.environment.get(key) for key in CIRCUMSTANCES} for result in (first, second)]
    return Comparison(
        facts_that_differ(first.facts, second.facts), facts_that_differ(around[0], around[1]), scores, reason
    )


def _not_comparable(first: Result, second: Result) -> str:
    """Why the numbers of the two say nothing about each other; empty where they do."""
    if first.benchmark != second.benchmark:
        return f"one was measured on {first.benchmark}, the other on {second.benchmark}"
    if list(first.classes) != list(second.classes):
        return f"their classes differ ({len(first.classes)} and {len(second.classes)} of them)"
    if first.facts["protocol"]["average"] != second.facts["protocol"]["average"]:
        return "their means leave out different classes"
    one, other = first.tallies.confusion.images, second.tallies.confusion.images
    if unpaired := one.keys() ^ other.keys():
        return f"{len(unpaired)} images were scored in one of them only, {min(unpaired)!r} for one"
    for name in one:
        if not np.array_equal(_truth(one[name]), _truth(other[name])):
            return f"the ground truth of {name!r} is not the same in both"
    return ""


def _truth(rows: Any) -> Any:
    """True pixels of the classes in an image [k, 2]."""
    totals = np.column_stack([rows[:, 0], rows[:, 1] + rows[:, 3]])
    return totals[totals[:, 1] > 0]
