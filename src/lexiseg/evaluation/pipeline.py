"""Runs reading, model and metric at the same time.

It tells which of them waited.

    samples -> read (threads) -> label (this thread: the model) -> record (one thread: the metric)

Images stay in their order all the way. What is read ahead and what waits for the metric is bounded, so memory does not
grow with the data set.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lexiseg.data.corruptions.corruptions import corrupt, image_seed
from lexiseg.data.labelled.samples import Sample
from lexiseg.errors import DataError
from lexiseg.evaluation.contents import Mark

__all__ = ["Corruption", "Item", "Profile", "read", "run"]

READERS = 2
RECORDS_WAITING = 4  # label maps that wait for the metric
PLACEHOLDER = (8, 8)  # pixels; stands in for an image that cannot be read

Given = TypeVar("Given")
Read = TypeVar("Read")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Corruption:
    """kind, severity: as in `lexiseg.data.corruptions`.
    bgr: channels reversed, as MaskCLIP's released code had them.
    """

    kind: str
    severity: int
    bgr: bool = False


@dataclass(frozen=True, eq=False)
class Item:
    """A sample that has been read.

    truth: None where it could not be, for the reason given.
    mark: what its files held; None where no result of it is kept.
    """

    key: str
    image: NDArray[np.uint8]
    truth: NDArray[Any] | None
    reason: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Profile:
    """Where the time went, in seconds of this session in the main process; images are those of all processes.

    first: until the first answer, which pays for compiling and warming up.
    waiting_for_data, waiting_for_metric: how long the model stood still. model: the rest, which is its own work.
    reading, metric: work of the other threads, beside it.
    """

    images: int = 0
    seconds: float = 0.0
    first: float = 0.0
    waiting_for_data: float = 0.0
    model: float = 0.0
    waiting_for_metric: float = 0.0
    reading: float = 0.0
    metric: float = 0.0

    def __add__(self, other: Profile) -> Profile:
        """Of two runs, one after the other."""
        return Profile(**{key: value + getattr(other, key) for key, value in vars(self).items()})

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0


def read(sample: Sample, corruption: Corruption | None = None) -> Item:
    """A sample with its corruption, before anything is resized.

    One that cannot be read becomes a small grey picture without ground truth: the images that pass the network
    together stay the same whether it is there or not, and so do their labels, to the last bit.
    """
    try:
        image, truth = sample.read()
    except DataError as error:
        return Item(sample.key, np.full((*PLACEHOLDER, 3), 128, np.uint8), None, " ".join(str(error).split()))
    if corruption is not None:
        seed = image_seed(sample.key)
        image = corrupt(image, corruption.kind, corruption.severity, seed, bgr=corruption.bgr)
    return Item(sample.key, image, truth)


def run(
    samples: Iterable[Given],
    *,
    read: Callable[[Given], Read],
    label: Callable[[Iterator[Read]], Iterator[Answer]],
    record: Callable[[Answer], None],
    ahead: int = 4,
    readers: int = READERS,
) -> Profile:
    """Takes every sample through the three stages; what one of them raises stops them all and is raised.

    label: one answer for each item, in order; it may draw a few items before the first answer.
    ahead: items that are read in advance.
    """
    clock = _Clock()
    record = clock.timed(_until_it_fails(record), "metric")
    with ThreadPoolExecutor(readers, "lexiseg-read") as pool, ThreadPoolExecutor(1, "lexiseg-metric") as metric:
        source = _ahead(pool, clock, samples, clock.timed(read, "reading"), ahead)
        recording: deque[Future[None]] = deque()
        try:
            for answer in label(source):
                clock.answered()
                while len(recording) >= RECORDS_WAITING:
                    clock.wait("waiting_for_metric", recording.popleft())
                recording.append(metric.submit(record, answer))
            while recording:
                clock.wait("waiting_for_metric", recording.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            metric.shutdown(wait=False, cancel_futures=True)
    return clock.profile()


def _until_it_fails(record: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """Answers that wait when one cannot be recorded are not recorded either: what was counted is a beginning."""
    failed = threading.Event()

    def call(answer: Answer) -> None:
        if failed.is_set():
            return
        try:
            record(answer)
        except BaseException:
            failed.set()
            raise

    return call


def _ahead(
    pool: ThreadPoolExecutor, clock: _Clock, samples: Iterable[Given], read: Callable[[Given], Read], ahead: int
) -> Iterator[Read]:
    remaining = iter(samples)
    waiting = deque(pool.submit(read, sample) for sample in itertools.islice(remaining, ahead))
    while waiting:
        item = clock.wait("waiting_for_data", waiting.popleft())
        waiting.extend(pool.submit(read, sample) for sample in itertools.islice(remaining, 1))
        yield item


class _Clock:
    """Seconds by what they were spent on; threads add to their own."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.first = 0.0
        self.images = 0
        self.spent = dict.fromkeys(("waiting_for_data", "waiting_for_metric", "reading", "metric"), 0.0)
        self._lock = threading.Lock()

    def answered(self) -> None:
        if not self.images:
            self.first = time.perf_counter() - self.start
        self.images += 1

    def wait(self, what: str, future: Future[Read]) -> Read:
        start = time.perf_counter()
        try:
            return future.result()
        finally:
            self._add(what, time.perf_counter() - start)

    def timed(self, function: Callable[[Any], Read], what: str) -> Callable[[Any], Read]:
        def call(value: Any) -> Read:
            start = time.perf_counter()
            try:
                return function(value)
            finally:
                self._add(what, time.perf_counter() - start)

        return call

    def _add(self, what: str, seconds: float) -> None:
        with self._lock:
            self.spent[what] += seconds

    def profile(self) -> Profile:
        seconds = time.perf_counter() - self.start
        stood_still = self.spent["waiting_for_data"] + self.spent["waiting_for_metric"]
        return Profile(self.images, seconds, self.first, model=seconds - stood_still, **self.spent)
