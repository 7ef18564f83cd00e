"""Measures many settings on one benchmark, embedding each photograph once.

That holds for all settings that touch the words alone.

Text settings (`LATE`) share an embedding, and so do the `classify_settings` of a method's traits. For every other
combination of settings the photographs are looked at again.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from numpy.typing import NDArray

from lexiseg import catalog, settings
from lexiseg.errors import SettingError
from lexiseg.evaluation import pipeline
from lexiseg.evaluation.counting import Counting, Progress, readable
from lexiseg.evaluation.pipeline import Item, Profile
from lexiseg.evaluation.result import flags
from lexiseg.evaluation.setup import NO_WORDS, Model, Setup
from lexiseg.evaluation.subject import Subject, prepare, vocabulary_of
from lexiseg.evaluation.tallies import Tallies
from lexiseg.inference.predictor import Predictor
from lexiseg.metrics.bootstrap import Bootstrap, Interval, intervals

__all__ = ["LATE", "Point", "Sweep", "sweep", "values"]

ALL = Counting()
LATE = ("background", "background_threshold", "prompts")
SHORT = {"threshold": "background_threshold"}
Grid = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Point:
    """One choice of settings and its scores, fractions 0-1 with 95 % intervals."""

    settings: dict[str, Any]
    scores: dict[str, Interval]


@dataclass(frozen=True)
class Sweep:
    """points: in the order of the grid, the last setting changing fastest.
    embedded: how often each photograph was looked at.
    """

    facts: dict[str, Any]
    points: list[Point]
    embedded: int
    images: int
    skipped: dict[str, str]
    warnings: list[str]
    profile: Profile

    def best(self, score: str = "miou") -> Point:
        return max(self.points, key=lambda point: point.scores[score].value)


def values(text: str) -> list[str]:
    """What to try, of a text: "a,b,c", or "start:stop:step" with both ends; raises `SettingError`.

    Decimals are added exactly, so that "0.1:0.9:0.1" are nine values and the third is 0.3.
    """
    if ":" not in text:
        found = [part.strip() for part in text.split(",") if part.strip()]
    else:
        try:
            start, stop, step = (Decimal(part) for part in text.split(":"))
            found = [str(start + step * place) for place in range(int((stop - start) / step) + 1)]
        except (ValueError, ArithmeticError, InvalidOperation) as error:
            raise SettingError(f"{text!r} is not a range; write start:stop:step, for example 0.1:0.9:0.1") from error
    if not found:
        raise SettingError(f"{text!r} has no values; write a,b,c or start:stop:step, for example 0.1:0.9:0.1")
    return found


def sweep(setup: Setup, grid: Grid, *, counting: Counting = ALL, progress: Progress | None = None) -> Sweep:
    """Measures every combination of the settings in `grid`.

    setup: its model is given by name.
    grid: the values to try of each setting: fields of the method's `Config` or of `Inference`, "threshold" for
        background_threshold, and "background" for words or lists of them ("none" for no words).

    Raises what `evaluate` raises.
    """
    grid = {SHORT.get(key, key): list(tried) for key, tried in grid.items()}
    if not grid or not all(grid.values()):
        raise SettingError("there is nothing to sweep; give settings with values, for example threshold=0.1:0.9:0.1")
    if not isinstance(setup.model, Model):
        raise SettingError("a sweep changes settings, and the model is loaded already; give it by its name")
    late = _late(setup.model)
    groups, profile = _groups(grid, late), Profile()
    measured: dict[str, dict[str, Interval]] = {}
    for done, (early, points) in enumerate(groups.items()):
        # with a threshold to try, "lexiseg" needs no words for the background
        thresholds = {key: grid[key][0] for key in ("background_threshold",) if key in grid}
        model = replace(setup.model, changes={**setup.model.changes, **thresholds, **dict(early)})
        base = prepare(replace(setup, model=model))
        setup = replace(setup, benchmark=base.opened)
        subjects = [_variant(base, {key: point[key] for key in point if key in late}) for point in points]
        step = None if progress is None else partial(_report, progress, done, len(groups))
        tallies, one = _count(base, subjects, counting, step)
        profile = profile + one
        measured |= {_key(point): _scores(base, tally) for point, tally in zip(points, tallies, strict=True)}
    return Sweep(
        facts={**base.facts, "counting": counting.facts},
        points=[Point(point, measured[_key(point)]) for point in _combinations(grid)],
        embedded=len(groups),
        images=len(tallies[0].confusion.images),
        skipped=tallies[0].skipped,
        warnings=_warnings(base),
        profile=profile,
    )


def _late(model: Model) -> set[str]:
    """Settings that change no embedding."""
    module, variant = catalog.resolve(model.name, weights=model.weights)
    return {*LATE, *module.traits(variant.config).classify_settings}


def _combinations(grid: Grid) -> Iterator[dict[str, Any]]:
    return (dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values()))


def _groups(grid: Grid, late: set[str]) -> dict[tuple[tuple[str, Any], ...], list[dict[str, Any]]]:
    """The combinations by those of their settings that change the embedding."""
    found: dict[tuple[tuple[str, Any], ...], list[dict[str, Any]]] = {}
    for point in _combinations(grid):
        early = tuple((key, value) for key, value in point.items() if key not in late)
        found.setdefault(early, []).append(point)
    return found


def _key(point: Mapping[str, Any]) -> str:
    return repr(sorted(point.items()))


def _variant(base: Subject, late: Mapping[str, Any]) -> Subject:
    """The same weights under other late settings."""
    predictor = base.predictor
    segmenter: Any = copy.copy(predictor.segmenter)  # its weights are shared, its config is its own
    config = {key: value for key, value in late.items() if key not in LATE}
    if config:
        segmenter.config = settings.change(segmenter.config, config)
    text = {key: value for key, value in late.items() if key in LATE and key != "background"}
    asked = Predictor(
        segmenter,
        settings.change(predictor.inference, text),
        name=predictor.name,
        device=predictor.device,
        dtype=predictor.dtype,
        about=predictor.about,
        familiar=predictor.familiar,
        text_cache=predictor.text_cache,
        fingerprint=predictor.fingerprint,
    )
    if "background" not in late:
        return replace(base, predictor=asked)
    words = str(late["background"])
    chosen = replace(base.protocol, background=None if words.lower() == NO_WORDS else words)
    return Subject(asked, base.opened, chosen, vocabulary_of(base.opened, chosen))


def _count(
    base: Subject, subjects: Sequence[Subject], counting: Counting, progress: Progress | None
) -> tuple[list[Tallies], Profile]:
    """What each subject makes of every photograph, which `base` looks at once."""
    tallies = [Tallies.empty(base.classes) for _ in subjects]
    chosen = counting.chosen(base.opened.samples)

    def label(items: Iterator[Item]) -> Iterator[tuple[Item, list[NDArray[Any]]]]:
        for item in readable(items, counting.allow_skipped):
            embedded = base.predictor.embed(item.image)
            found = (one.predictor.classify(embedded, one.vocabulary, scores=False).labels for one in subjects)
            yield item, [one.scored(labels) for one, labels in zip(subjects, found, strict=True)]

    def record(answer: tuple[Item, list[NDArray[Any]]]) -> None:
        item, found = answer
        for tally, labels in zip(tallies, found, strict=True):
            if item.truth is None:
                tally.skip(item.key, item.reason)
            else:
                tally.update(item.key, labels, item.truth)
        if progress is not None:
            progress(len(tallies[0].done), len(chosen))

    return tallies, pipeline.run(chosen, read=pipeline.read, label=label, record=record)


def _report(progress: Progress, group: int, groups: int, done: int, images: int) -> None:
    progress(group * images + done, groups * images)


def _scores(base: Subject, tallies: Tallies) -> dict[str, Interval]:
    subsets = flags(base.opened.subsets, base.classes)
    return intervals(tallies.confusion.images, Bootstrap(base.classes, subsets, base.protocol.average))


def _warnings(base: Subject) -> list[str]:
    opened = base.opened
    if opened.split != opened.benchmark.test:
        return []
    train = opened.benchmark.train
    other = "other photographs" if train in (None, opened.split) else f"the split {train!r}"
    return [
        f"scores are reported on these photographs ({opened.benchmark.name}, split {opened.split!r}): choosing a "
        f"setting on the data you report on inflates the score; choose it on {other}"
    ]
