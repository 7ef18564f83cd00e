"""Counts a benchmark's pixels once, whatever the processes and interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lexiseg.benchmarks._benchmark import Opened
from lexiseg.data.labelled.samples import Sample
from lexiseg.errors import DataError, OutputError, SettingError
from lexiseg.evaluation import contents, pipeline
from lexiseg.evaluation.contents import Beside
from lexiseg.evaluation.facts import difference
from lexiseg.evaluation.group import Processes
from lexiseg.evaluation.pipeline import Corruption, Item, Profile
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.tallies import Tallies
from lexiseg.evaluation.unfinished import Unfinished

__all__ = ["Answer", "Counting", "Keep", "Progress", "count", "readable"]

IN_THE_WAY = "choose another place with out=PATH, or replace it with overwrite=True"

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
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise SettingError(f"{name} must be a whole number of images, 1 or more, got {value!r}")
        if not isinstance(self.corruption, Corruption | None):
            raise SettingError(
                f"corrupt must be a Corruption, got {self.corruption!r}; for example Corruption('fog', 3)"
            )

    @property
    def facts(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "allow_skipped"}

    def chosen(self, samples: Sequence[Sample]) -> list[Sample]:
        if self.limit is None or self.limit >= len(samples):
            return list(samples)
        return [samples[place * len(samples) // self.limit] for place in range(self.limit)]


@dataclass(frozen=True)
class Keep:
    """Where the result goes, and what happens to what is there.

    A finished result of the same settings and data is taken as it is.

    resume: go on with an unfinished result, which is begun afresh otherwise.
    overwrite: measure again, whatever is there.
    save_every: seconds between two savings of what is unfinished.
    """

    path: Path | None = None
    resume: bool = False
    overwrite: bool = False
    save_every: float = 20.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, Path | None):
            raise SettingError(f"out must be the path of a file, got {self.path!r}")
        if self.resume and self.overwrite:
            raise SettingError("resume keeps what is there and overwrite replaces it; give one of them")

    @property
    def unfinished(self) -> Path | None:
        return None if self.path is None else self.path.with_name(f"{self.path.name}.unfinished")

    def finished(
        self, facts: Mapping[str, Any], samples: Sequence[Sample], beside: Beside = contents.nothing
    ) -> Result | None:
        """The result that is there already, where it is of the same settings and of these samples as they are now.

        Raises `OutputError` for any other file that is in the way.
        """
        if self.path is None or self.overwrite or not self.path.exists():
            return None
        try:
            found = Result.load(self.path)
        except DataError as error:
            raise OutputError(f"{error}; {IN_THE_WAY}") from error
        if changed := difference(found.facts, facts):
            raise OutputError(f"{self.path} has another result ({changed}); {IN_THE_WAY}")
        if images := contents.changed(found.tallies.marks, samples, beside):
            raise OutputError(f"{self.path} has a result of {contents.told(images)}; {IN_THE_WAY}")
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
    beside: Beside = contents.nothing,
) -> tuple[Tallies, Profile]:
    """Counts every image once, in this or another process, in this or an earlier session.

    label: answers for the items of a stream, in order.
    beside: the files, other than photograph and label map, that decide what is counted of a sample.

    Raises `DataError` where an earlier session counted images that are other ones now.
    """
    processes = Processes.current()
    counted, before = (
        Tallies.empty(len(opened.names), own=counting.own_words, boundary=counting.boundary) for _ in range(2)
    )
    unfinished = Unfinished.open(keep.unfinished, facts, empty=before, resume=keep.resume, processes=processes)
    chosen = counting.chosen(opened.samples)
    unfinished.check(chosen, beside)
    blocks = _blocks(chosen, counting.batch_size, unfinished.done)
    mine = [sample for block in blocks[processes.rank :: processes.world] for sample in block]
    recorder = _Recorder(counted, unfinished, counting, keep.save_every, progress, len(chosen))
    profile = pipeline.run(
        mine,
        read=partial(_read, counting.corruption, beside),
        label=lambda items: label(readable(items, counting.allow_skipped)),
        record=recorder,
        ahead=counting.batch_size + pipeline.READERS + 1,
    )
    unfinished.save(counted)
    everywhere = sum(processes.of_all(profile.images))
    return unfinished.total(counted), replace(profile, images=everywhere)


def _read(corruption: Corruption | None, beside: Beside, sample: Sample) -> Item:
    item = pipeline.read(sample, corruption)
    return replace(item, mark=contents.mark(sample, item.truth, beside))


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
        assert item.mark is not None, "`_read` marks every item"
        self.counted.marks[item.key] = item.mark
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
            raise DataError(
                f"{item.key} cannot be scored: {item.reason}. Repair it, or leave such images out "
                "with allow_skipped=True"
            )
        yield item


def _blocks(samples: list[Sample], size: int, done: set[str]) -> list[list[Sample]]:
    """The batches that are not done; what is done was saved in whole batches."""
    blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [block for block in blocks if block[0].key not in done]
