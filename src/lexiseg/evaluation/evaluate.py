"""Measures one model on one benchmark.

The result is a number with everything that decides it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.benchmarks._advice import doubtful
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.errors import SettingError
from lexiseg.evaluation import result
from lexiseg.evaluation.counting import Answer, Counting, Keep, Progress, count
from lexiseg.evaluation.group import Processes
from lexiseg.evaluation.pipeline import Corruption, Item, Profile
from lexiseg.evaluation.protocols import Protocol
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import Subject, prepare
from lexiseg.evaluation.tallies import Tallies
from lexiseg.evaluation.unfinished import Unfinished
from lexiseg.inference.predictor import Predictor
from lexiseg.provenance import environment

__all__ = ["evaluate", "finish", "measure"]

NOWHERE = Keep()
ASK = "`lexiseg data check` says how to write down what it is"


def evaluate(
    model: str | os.PathLike[str] | Predictor,
    benchmark: str | Opened,
    *,
    data: str | os.PathLike[str] | None = None,
    protocol: str | Protocol | None = None,
    split: str | None = None,
    wording: str | None = None,
    background: str | Sequence[str] | None = None,
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

    model: "method/variant", a method, a saved folder, or a predictor, which is measured as it is.
    benchmark: the name of one whose files lie below `data`, or one that is open.
    weights, preset, device, dtype, changes: see `lexiseg.load`; changes come on top of the protocol's settings.
    data, protocol, split, wording, background, options: see `Setup`.
    limit, batch_size, corrupt, own_words, boundary, allow_skipped: see `Counting`.
    out: a JSON file for the result; a finished one of the same settings and data is read and returned.
    resume: go on with an unfinished result, which lies beside `out`.
    overwrite: measure again, whatever is at `out`.
    progress: called with the images done and how many there are.

    Where a torch.distributed group exists, its processes share the images and all return the whole result.

    Raises `DataError` for data that is missing or cannot be read, `UnknownName` and `SettingError` for anything that
    does not exist or fit, `OutputError` for a result of something else at `out`.

    A photograph of one's own, in which only the face of a cat is labelled:

    >>> import lexiseg
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skimage import data
    >>> Path("own/images").mkdir(parents=True)
    >>> Path("own/masks").mkdir()
    >>> truth = np.full((300, 451), 255, np.uint8)  # 255 is not scored
    >>> truth[80:200, 150:280] = 0  # the first class
    >>> Image.fromarray(data.chelsea()).save("own/images/chelsea.png")
    >>> Image.fromarray(truth).save("own/masks/chelsea.png")
    >>> Path("own/classes.json").write_text('["cat", "blanket", "wall"]')
    26
    >>> result = lexiseg.evaluate("maskclip/mini", "folder", data="own", out="own/score.json")
    >>> result.images, result["pixel_accuracy"] > 0.9
    (1, True)
    """
    named = model if isinstance(model, Predictor) else _named(model, weights, preset, device, dtype, changes)
    if isinstance(model, Predictor) and (changes or weights or preset):
        raise SettingError("the model is loaded already, so its settings stay; give it by its name to change them")
    setup = Setup(
        named, benchmark, data, protocol=protocol, split=split, wording=wording, background=background,
        options=options or {},
    )  # fmt: skip
    counting = Counting(limit, batch_size, corrupt, own_words, boundary, allow_skipped)
    keep = Keep(Path(out) if isinstance(out, str | os.PathLike) else out, resume, overwrite)
    return measure(prepare(setup), counting, keep=keep, progress=progress)


def measure(
    subject: Subject,
    counting: Counting,
    *,
    keep: Keep = NOWHERE,
    progress: Progress | None = None,
) -> Result:
    """`evaluate` for a model and a benchmark that are set up."""
    facts = {**subject.facts, "counting": counting.facts}
    if (found := keep.finished(facts, counting.chosen(subject.opened.samples))) is not None:
        return found
    dtype = subject.predictor.dtype
    label = partial(_ask_twice if counting.own_words else _segment, subject, counting.batch_size)
    tallies, profile = count(subject.opened, label, counting, facts=facts, keep=keep, progress=progress)
    warnings = _warnings(subject, counting, tallies)
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


def _named(name: Any, *rest: Any) -> Model:
    return Model(os.fspath(name) if isinstance(name, os.PathLike) else name, *rest)


def _warnings(subject: Subject, counting: Counting, tallies: Tallies) -> list[str]:
    opened, found = subject.opened, []
    if tallies.skipped:
        found.append(f"{len(tallies.skipped)} images were skipped: {', '.join(sorted(tallies.skipped)[:5])}")
    if opened.left_out:
        found.append(f"files that were left out: {opened.left_out}")
    if counting.limit is not None and counting.limit < len(opened.samples):
        found.append(f"{counting.limit} of the {len(opened.samples)} images were looked at")
    if opened.benchmark.classes is None:
        found += [f"is {name!r} a class? {ASK}" for name in opened.vocabulary.names if doubtful(name)]
    return found + _about_classes(subject, tallies)


def _about_classes(subject: Subject, tallies: Tallies) -> list[str]:
    """Of the classes in no label map, which the means leave out unless they are predicted, and of the background."""
    counts, names, found = tallies.confusion.counts, subject.opened.names, []
    true, predicted = counts.sum(axis=1), counts[:, :-1].sum(axis=0)
    absent = [name for name, pixels, others in zip(names, true, predicted, strict=True) if others and not pixels]
    if absent and subject.protocol.average != "present":
        share = 100 * predicted[true == 0].sum() / counts.sum()
        few = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        found.append(f"{share:.1f} % of the pixels went to classes that are in no label map, which count with 0: {few}")
    place = subject.opened.background
    if place is not None and true[place] and not predicted[place]:
        found.append(
            "no pixel was left to the background, which is scored; give words for it, or a background_threshold"
        )
    return found
