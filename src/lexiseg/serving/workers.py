"""Works on waiting photographs, one thread a model.

They pass the network in batches.

A `Predictor` keeps state (the words' classifiers, a precision that is given up), so all calls but `read` come from its
one thread. A worker takes the first piece of work; photographs that wait behind it join it, and while further requests
are being read it waits a few milliseconds for theirs. A batch that fails is tried again one by one, so that one
photograph cannot fail its neighbours.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from lexiseg.inference.predictor import Embedded, Predictor
from lexiseg.inference.reading import Picture
from lexiseg.serving.metrics import Metrics

__all__ = ["Done", "Job", "Worker"]

LINGER = 0.004  # seconds that a batch waits for photographs that are being decoded

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Done:
    """What became of a piece of work, and the seconds it took.

    answer: what the question returned; None where nothing was asked.
    """

    embedded: Embedded
    answer: Any
    queued: float
    embedding: float
    answering: float


@dataclass(frozen=True, eq=False)
class Job:
    """A photograph to look at, or one that was looked at, and what is to be asked about it.

    ask: called in the worker's thread; None for the embedding alone.
    deadline: on the clock of `time.monotonic`; later nobody waits for it.
    """

    seen: Picture | Embedded
    ask: Callable[[Predictor, Embedded], Any] | None
    deadline: float
    born: float = field(default_factory=time.monotonic)
    future: Future[Done] = field(default_factory=Future)


class Worker:
    """name: of the model, as it is served.

    more: how many requests are about to bring work; while there are some, a batch waits for them for a moment.
    """

    def __init__(
        self, name: str, predictor: Predictor, metrics: Metrics, *, most: int, more: Callable[[], int] = lambda: 0
    ) -> None:
        self.name, self.predictor, self.metrics, self.most, self.more = name, predictor, metrics, most, more
        self._waiting: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"lexiseg-{name}", daemon=True)

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> Future[Done]:
        with self._news:
            assert not self._closed, "the server accepts no work any more"
            self._waiting.append(job)
            self._news.notify()
        return job.future

    def close(self, timeout: float | None = None) -> None:
        """Finishes what waits, then ends the thread."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._take():
            jobs = [job for job in batch if self._wanted(job)]
            pictures = [job for job in jobs if isinstance(job.seen, Picture)]
            if pictures:
                self._embed(pictures)
            for job in jobs:
                if isinstance(job.seen, Embedded):
                    self._answer(job, job.seen, 0.0, time.monotonic())

    def _take(self) -> list[Job]:
        """The next piece of work, or a batch of photographs; empty when there will be no more."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            if not isinstance(self._waiting[0].seen, Picture):
                return [self._waiting.popleft()]
            until = time.monotonic() + LINGER
            while self._photographs() < self.most and self.more() > len(self._waiting) and not self._closed:
                if not self._news.wait(until - time.monotonic()):
                    break
            batch = [job for job in self._waiting if isinstance(job.seen, Picture)][: self.most]
            for job in batch:
                self._waiting.remove(job)
            return batch

    def _photographs(self) -> int:
        return sum(isinstance(job.seen, Picture) for job in self._waiting)

    def _wanted(self, job: Job) -> bool:
        """False where the client has left or the time is up."""
        if time.monotonic() > job.deadline:
            job.future.cancel()
        return job.future.set_running_or_notify_cancel()

    def _embed(self, jobs: Sequence[Job]) -> None:
        start = time.monotonic()
        self.metrics.batches.observe(len(jobs))
        try:
            found = self.predictor.embed_many([job.seen for job in jobs if isinstance(job.seen, Picture)])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            _logger.warning("a batch of %d photographs failed; each is tried alone", len(jobs))
            for job in jobs:
                self._embed([job])
            return
        taken = time.monotonic() - start
        self.metrics.embed.labels(self.name).observe(taken)
        for job, embedded in zip(jobs, found, strict=True):
            self._answer(job, embedded, taken, start)

    def _answer(self, job: Job, embedded: Embedded, embedding: float, start: float) -> None:
        self.metrics.wait.observe(max(0.0, start - job.born))
        begun = time.monotonic()
        try:
            answer = None if job.ask is None else job.ask(self.predictor, embedded)
        except Exception as error:
            job.future.set_exception(error)
            return
        taken = time.monotonic() - begun
        if job.ask is not None:
            self.metrics.classify.labels(self.name).observe(taken)
        job.future.set_result(Done(embedded, answer, start - job.born, embedding, taken))
