"""Chooses the best sentence for words on training photographs.

Only their seen classes count.

ZSSeg tries each of ImageNet's 80 sentences so, and keeps one (docs/papers/zsseg_fcn.md §7.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lexiseg.benchmarks import _benchmark
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.data.labelled.samples import IdTable, ignore_value
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError
from lexiseg.evaluation.counting import Counting, Progress
from lexiseg.evaluation.pipeline import Profile
from lexiseg.evaluation.setup import Setup
from lexiseg.evaluation.subject import settle
from lexiseg.evaluation.sweep import sweep
from lexiseg.metrics.bootstrap import Interval

__all__ = ["Candidate", "PromptChoice", "choose_prompt", "seen_only"]

ALL = Counting()


@dataclass(frozen=True)
class Candidate:
    """A sentence and its scores, fractions 0-1 with 95 % intervals."""

    sentence: str
    scores: dict[str, Interval]


@dataclass(frozen=True)
class PromptChoice:
    """candidates: the best first; equally good ones in the order they were given.

    score: the name of the score that decided.
    """

    facts: dict[str, Any]
    score: str
    candidates: list[Candidate]
    images: int
    skipped: dict[str, str]
    warnings: list[str]
    profile: Profile

    @property
    def best(self) -> Candidate:
        return self.candidates[0]


def choose_prompt(
    setup: Setup,
    *,
    among: str = "imagenet80",
    score: str = "miou",
    counting: Counting = ALL,
    progress: Progress | None = None,
) -> PromptChoice:
    """Measures every sentence by itself, each photograph embedded once.

    setup: its model is given by name. Its split is the one that the benchmark trains on unless it names another.
    among: prompts with several sentences, see `Prompts.open`.
    score: "miou" or another one that `sweep` reports.

    Where the benchmark keeps classes from training, these are neither asked for nor scored. Raises `SettingError` for
    the split that numbers are reported on, for a score that there is not, and what `sweep` raises.
    """
    prompts = Prompts.open(among)
    if prompts.context is not None or len(prompts.sentences) < 2:
        raise SettingError(f"{among} leaves nothing to choose; give prompts of two sentences or more")
    benchmark = _benchmark.get(setup.on)
    if isinstance(setup.benchmark, Opened):
        split: str | None = setup.benchmark.split
    else:
        split = benchmark.train if setup.split is None else setup.split
    if split is None or (split == benchmark.test and benchmark.train != benchmark.test):
        given = "has no training split" if split is None else f"is reported on its split {split!r}"
        raise SettingError(
            f"{benchmark.name} {given}, and a sentence that is chosen there inflates the score; "
            f"give split={benchmark.train or 'NAME'}, or choose on other photographs"
        )
    _, opened = settle(replace(setup, split=split))
    found = sweep(
        replace(setup, benchmark=seen_only(opened)),
        {"prompts": list(prompts.sentences)},
        counting=counting,
        progress=progress,
    )
    if score not in found.points[0].scores:
        raise SettingError(f"there is no score {score!r} here; choose by {', '.join(found.points[0].scores)}")
    candidates = [Candidate(str(point.settings["prompts"]), point.scores) for point in found.points]
    return PromptChoice(
        facts=found.facts,
        score=score,
        candidates=sorted(candidates, key=lambda one: -one.scores[score].value),
        images=found.images,
        skipped=found.skipped,
        warnings=_warnings(opened),
        profile=found.profile,
    )


def seen_only(opened: Opened) -> Opened:
    """The same photographs where classes that are kept from training are not asked for, and their pixels not scored.

    Raises `SettingError` where fewer than two classes are left.
    """
    if opened.vocabulary.seen is None or all(opened.vocabulary.seen):
        return opened
    kept = [place for place, seen in enumerate(opened.vocabulary.seen) if seen]
    if len(kept) < 2:
        raise SettingError(f"{opened.benchmark.name} has {len(kept)} seen classes, which leaves nothing to tell apart")
    background = None if opened.background is None else len(kept)
    ignore = ignore_value(len(kept) + (background is not None))
    new = {place: at for at, place in enumerate(kept)} | {opened.ignore: ignore}
    if opened.background is not None and background is not None:
        new[opened.background] = background
    vocabulary = opened.vocabulary.only(kept)
    tables: dict[int, IdTable] = {}

    def table(old: IdTable) -> IdTable:
        if id(old) not in tables:
            places = [each if each < 0 else new.get(each, ignore) for each in old.classes.tolist()]
            tables[id(old)] = IdTable(np.array(places, np.int32), ignore)
        return tables[id(old)]

    return replace(
        opened,
        vocabulary=vocabulary,
        samples=[replace(sample, table=table(sample.table)) for sample in opened.samples],
        background=background,
        ignore=ignore,
        seen=(True,) * (len(kept) + (background is not None)),
        subsets={},
        class_digest=f"seen of {opened.class_digest}",
    )


def _warnings(opened: Opened) -> list[str]:
    if opened.split != opened.benchmark.test:
        return []
    return [
        f"{opened.benchmark.name} has one split, {opened.split!r}: report scores on photographs that the sentence was "
        "not chosen on"
    ]
