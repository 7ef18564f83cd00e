"""Counting the pixels of a benchmark once, whatever the number of processes and interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lexiseg.benchmarks._benchmark import Opened
from lexiseg.data.labelled.samples import Sample
from lexiseg.errors import DataError, OutputError, SettingError
from lexiseg.evaluation import pipeline
from lexiseg.evaluation.facts import differences
from lexiseg.evaluation.group import Processes
from lexiseg.evaluation.pipeline import Corruption, Item, Profile
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.tallies import Tallies
from lexiseg.evaluation.unfinished import Unfinished

__all__ = ["Answer", "Counting", "Keep", "Progress", "count", "readable"]

Labels = NDArray[Any]
Progress = Callable[[int, int], None]  # images done, and how many there are


@dataclass(frozen=True)
class Counting:
    """Which images are looked at, and what is counted of them.

    limit: this many, spread evenly over the split; None for all.
    batch_size: images that may pass the network together.
    corruption: done to every image before it is resized.
    own_words: ask each image about its own classes alone, too.
    boundary: measure the bands along the contours, too.
    allow_skipped: go on when an image cannot be read; the result names it.
    """

    limit: int | None = None
    batch_size: int = 1
    corruption: Corruption | None = None
    own_words: bool = False
    boundary: bool = False
    allow_skipped: bool = False

    def __post_init__(self) -> None:
        for name in ("limit", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SettingError(f"{name}={value} is no number of images; give 1 or more")

    @property
    def facts(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "allow_skipped"}

    def chosen(self, samples: Any) -> list[Sample]:
        if self.limit is None or self.limit >= len(samples):
            return list(samples)
        return [samples[place * len(samples) // self.limit] for place in range(self.limit)]


@dataclass(frozen=True)
class Keep:
    """Where the result goes, and what happens to what is there.

    resume: take a finished result as it is, go on with an unfinished one. Otherwise `overwrite` decides.
    save_every: seconds between two savings of what is unfinished.
    """

    path: Path | None = None
    resume: bool = False
    overwrite: bool = False
    save_every: float = 20.0

    @property
    def unfinished(self) -> Path | None:
        return None if self.path is None else self.path.with_name(f"{self.path.name}.unfinished")

    def finished(self, facts: Mapping[str, Any]) -> Result | None:
        """The result that is there already and may be taken.

        Raises `OutputError` for a file that is in the way.
        """
        if self.path is None or not self.path.exists() or (self.overwrite and not self.resume):
            return None
        if not self.resume:
            raise OutputError(f"{self.path} exists already; resume it, overwrite it, or choose another place")
        found = Result.load(self.path)
        if changed := differences(found.facts, facts):
            key, then, now = changed[0]
            raise OutputError(
                f"{self.path} is the result of something else ({key} was {then!r} and is {now!r}); choose another place"
            )
        return found


@dataclass(frozen=True, eq=False)
class Answer:
    """labels, own: label maps over the scored classes; own is that of the image's own words, if it was asked."""

    item: Item
    labels: Labels
    own: Labels | None = None


def count(
    opened: Opened,
    label: Callable[[Iterator[Item]], Iterator[Answer]],
    counting: Counting,
    *,
    facts: Mapping[str, Any],
    keep: Keep,
    progress: Progress | None = None,
) -> tuple[Tallies, Profile]:
    """Counts every image once, in this or another process, in this or an earlier session.

    label: answers for the items of a stream, in order.
    """
    processes = Processes.current()
    counted, before = (
        Tallies.empty(len(opened.names), own=counting.own_words, boundary=counting.boundary) for _ in range(2)
    )
    unfinished = Unfinished.open(keep.unfinished, facts, empty=before, resume=keep.resume, processes=processes)
    chosen = counting.chosen(opened.samples)
    blocks = _blocks(chosen, counting.batch_size, unfinished.done)
    mine = [sample for block in blocks[processes.rank :: processes.world] for sample in block]
    recorder = _Recorder(counted, unfinished, counting, keep.save_every, progress, len(chosen))
    profile = pipeline.run(
        mine,
        read=partial(pipeline.read, corruption=counting.corruption),
        label=lambda items: label(readable(items, counting.allow_skipped)),
        record=recorder,
        ahead=counting.batch_size + pipeline.READERS + 1,
    )
    unfinished.save(counted)
    everywhere = sum(processes.of_all(profile.images))
    return unfinished.total(counted), replace(profile, images=everywhere)


class _Recorder:
    """Adds answers up in the metric's thread, and saves what is unfinished when it is time and a batch is complete:
    then the batches of a resumed run are those of an uninterrupted one, and so are its labels, to the last bit."""

    def __init__(
        self,
        counted: Tallies,
        unfinished: Unfinished,
        counting: Counting,
        save_every: float,
        progress: Progress | None,
        images: int,
    ) -> None:
        self.counted, self.unfinished, self.counting = counted, unfinished, counting
        self.save_every, self.progress, self.images = save_every, progress, images
        self.here, self.saved = 0, time.monotonic()

    def __call__(self, answer: Answer) -> None:
        item = answer.item
        if item.truth is None:
            self.counted.skip(item.key, item.reason)
        else:
            self.counted.update(item.key, answer.labels, item.truth, answer.own)
        self.here += 1
        if self.here % self.counting.batch_size == 0 and time.monotonic() - self.saved >= self.save_every:
            self.unfinished.save(self.counted)
            self.saved = time.monotonic()
        if self.progress is not None:
            done = len(self.unfinished.done) + self.here * self.unfinished.processes.world
            self.progress(min(done, self.images), self.images)


def readable(items: Iterator[Item], allow_skipped: bool) -> Iterator[Item]:
    for item in items:
        if item.truth is None and not allow_skipped:
            raise DataError(f"{item.key} cannot be scored: {item.reason}. Repair it, or allow images to be skipped")
        yield item


def _blocks(samples: list[Sample], size: int, done: set[str]) -> list[list[Sample]]:
    """The batches that are not done; what is done was saved in whole batches."""
    blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [block for block in blocks if block[0].key not in done]
