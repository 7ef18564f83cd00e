"""evaluate: one model, one benchmark, one protocol, and a number with everything that decides it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.benchmarks._benchmark import Opened
from lexiseg.errors import SettingError
from lexiseg.evaluation import result
from lexiseg.evaluation.counting import Answer, Counting, Keep, Progress, count
from lexiseg.evaluation.group import Processes
from lexiseg.evaluation.pipeline import Corruption, Item, Profile
from lexiseg.evaluation.protocols import Protocol
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.subject import Model, Subject, prepare
from lexiseg.evaluation.tallies import Tallies
from lexiseg.evaluation.unfinished import Unfinished
from lexiseg.inference.predictor import Predictor
from lexiseg.provenance import environment

__all__ = ["evaluate", "finish", "measure"]

NOWHERE = Keep()


def evaluate(
    model: str | os.PathLike[str] | Predictor,
    benchmark: str | Opened,
    *,
    data: str | os.PathLike[str] | None = None,
    protocol: str | Protocol | None = None,
    split: str | None = None,
    wording: str | None = None,
    background: str | None = None,
    options: Mapping[str, str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    limit: int | None = None,
    batch_size: int = 1,
    corrupt: Corruption | None = None,
    own_words: bool = False,
    boundary: bool = False,
    allow_skipped: bool = False,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **changes: Any,
) -> Result:
    """Measures a model on a benchmark.

    model, weights, preset, device, dtype: see `lexiseg.load`; or a predictor as it is.
    benchmark: the name of one whose files lie below `data`, or one that is open.
    protocol: "released", "paper", "lexiseg" ..., see `protocols`; the method's own unless another is asked for.
    split, wording, options: see `benchmarks.open`; wording "names" calls each class by its name alone.
    background: words for everything else, or the name of a list of them, where the benchmark scores a background.
    limit, batch_size, corrupt, own_words, boundary, allow_skipped: see `Counting`.
    out: a JSON file for the result; what is unfinished is kept beside it, and `resume` goes on with it.
    progress: called with the images done and how many there are.
    changes: settings by name, on top of the protocol's.

    Where a torch.distributed group exists, its processes share the images and all return the whole result.

    Raises `DataError` for data that is missing or cannot be read, `UnknownName` and `SettingError` for anything that
    does not exist or fit, `OutputError` for a result that is in the way.
    """
    named = model if isinstance(model, Predictor) else Model(os.fspath(model), weights, preset, device, dtype, changes)
    if isinstance(model, Predictor) and (changes or weights or preset):
        raise SettingError("the model is loaded already, so its settings stay; give it by its name to change them")
    subject = prepare(
        named, benchmark, data, wanted=protocol, split=split, wording=wording, background=background, options=options
    )
    counting = Counting(limit, batch_size, corrupt, own_words, boundary, allow_skipped)
    keep = Keep(None if out is None else Path(out), resume, overwrite)
    return measure(subject, counting, keep=keep, progress=progress)


def measure(
    subject: Subject,
    counting: Counting,
    *,
    keep: Keep = NOWHERE,
    progress: Progress | None = None,
) -> Result:
    """`evaluate` for a model and a benchmark that are set up."""
    facts = {**subject.facts, "counting": counting.facts}
    if (found := keep.finished(facts)) is not None:
        return found
    dtype = subject.predictor.dtype
    label = partial(_ask_twice if counting.own_words else _segment, subject, counting.batch_size)
    tallies, profile = count(subject.opened, label, counting, facts=facts, keep=keep, progress=progress)
    warnings = _warnings(subject.opened, counting, tallies)
    if subject.predictor.dtype != dtype:
        warnings.append(f"{dtype} overflowed on the way, and a wider precision was used from there on")
    return finish(subject.opened, facts, tallies, profile, warnings, keep=keep, average=subject.protocol.average)


def finish(
    opened: Opened,
    facts: dict[str, Any],
    tallies: Tallies,
    profile: Profile,
    warnings: list[str],
    *,
    keep: Keep,
    average: str = "present_or_predicted",
) -> Result:
    """Scores what was counted; the main process writes it, and then nothing is unfinished any more."""
    processes = Processes.current()
    scored = result.score(
        facts,
        tallies,
        opened.names,
        subsets=opened.subsets,
        average=average,
        profile=profile,
        environment={**environment(), "processes": processes.world},
        warnings=warnings,
    )
    if keep.path is not None and keep.unfinished is not None and processes.main:
        scored.save(keep.path)
        Unfinished.remove(keep.unfinished)
    return scored


def _segment(subject: Subject, batch_size: int, items: Iterator[Item]) -> Iterator[Answer]:
    waiting: deque[Item] = deque()

    def images() -> Iterator[NDArray[np.uint8]]:
        for item in items:
            waiting.append(item)
            yield item.image

    for found in subject.predictor.segment_many(images(), subject.vocabulary, batch_size=batch_size, scores=False):
        yield Answer(waiting.popleft(), subject.scored(found.labels))


def _ask_twice(subject: Subject, batch_size: int, items: Iterator[Item]) -> Iterator[Answer]:
    """Each image is embedded once, on its own, and asked about all classes and about its own."""
    for item in items:
        embedded = subject.predictor.embed(item.image)
        labels = subject.predictor.classify(embedded, subject.vocabulary, scores=False).labels
        own = None if item.truth is None else subject.own_words(embedded, item.truth)
        yield Answer(item, subject.scored(labels), own)


def _warnings(opened: Opened, counting: Counting, tallies: Tallies) -> list[str]:
    found = []
    if tallies.skipped:
        found.append(f"{len(tallies.skipped)} images were skipped: {', '.join(sorted(tallies.skipped)[:5])}")
    if opened.left_out:
        found.append(f"files that were left out: {opened.left_out}")
    if counting.limit is not None and counting.limit < len(opened.samples):
        found.append(f"{counting.limit} of the {len(opened.samples)} images were looked at")
    if opened.background is not None and not tallies.confusion.counts[:, opened.background].any():
        found.append(
            "no pixel was left to the background, which is scored; give words for it, or a background_threshold"
        )
    return found
