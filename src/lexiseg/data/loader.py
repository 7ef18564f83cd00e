"""Loads batches of samples, in order, in parallel and resumable.

It counts what could not be read, and says so.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lexiseg.data.order import Draw, Order, Position, generator
from lexiseg.errors import BadSample, DataError, ImageError

__all__ = ["LOOK", "Batch", "Loader", "Source", "collate", "too_many_bad"]

Batch = dict[str, Any]

_logger = logging.getLogger(__name__)
LOOK = 1000  # samples: the least over which a fraction of bad ones means anything
_SUBSTITUTES = 32  # tries to fill the place of a bad sample
_AHEAD = 2  # batches each worker prepares in advance
_PLURAL = {"key": "keys", "image": "images", "text": "texts"}


class Source(Protocol):
    """Samples that can be made one by one, in any order, from any process."""

    @property
    def blocks(self) -> Sequence[int]:
        """Samples in each part that is cheap to read together; see `Order`."""
        ...

    def key(self, index: int) -> str:
        """A name that a person can find the sample by."""
        ...

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        """The sample, augmented by `random` alone; raises `BadSample` or `ImageError` where it cannot be used."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What the data is, as plain JSON: equal manifests mean equal data."""
        ...


class Loader:
    """Batches of a `Source`, the same whatever the number of workers.

    batch_size: samples in a batch of one process.
    seed: decides the order and every sample's random numbers.
    workers: how many prepare batches beside the caller; 0 prepares each when it is asked for.
    kind: what a worker is. Processes suit sources with much Python in them; threads need no shared memory, and suit
        sources that mostly decode pictures.
    max_bad_fraction: as in `too_many_bad`.

    The place of a bad sample is filled by another one, drawn by (seed, epoch, place): batches keep their size, and
    neither order nor position depends on what is bad.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        kind: Literal["processes", "threads"] = "processes",
        shuffle: bool = True,
        mix: int = 16,
        max_bad_fraction: float = 0.01,
    ) -> None:
        self.source, self.batch_size, self.max_bad_fraction = source, batch_size, max_bad_fraction
        self._seed, self._workers, self._kind = seed, workers, kind
        self._order = Order(source.blocks, seed=seed, shuffle=shuffle, mix=mix)
        self._read = 0
        self._named: set[str] = set()
        self.skipped: Counter[str] = Counter()  # by reason, since this loader was made

    @property
    def samples_per_epoch(self) -> int:
        return len(self._order)

    def manifest(self) -> dict[str, Any]:
        """What decides the batches: the source's own manifest, the number of samples, and the seed."""
        return {"samples": self.samples_per_epoch, "seed": self._seed, "source": self.source.manifest()}

    def stream(
        self, position: Mapping[str, int] | None = None, *, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Batch, Position]]:
        """Batches from `position` on, without end, each with the position after it.

        Raises `DataError` for a position that does not fit, and once more than `max_bad_fraction` of the samples
        cannot be read.
        """

        def draws() -> Iterator[tuple[list[Draw], Position]]:
            return self._order.batches(position, batch_size=self.batch_size, rank=rank, world=world)

        work = _Work(self.source, self._seed, self.samples_per_epoch)
        if not self._workers:
            made: Iterator[_Made] = (work[batch] for batch, _ in draws())
        elif self._kind == "threads":
            made = _in_threads(work, (batch for batch, _ in draws()), self._workers)
        else:
            made = _in_processes(work, _Restartable(draws), self._workers)
        with contextlib.closing(made):  # type: ignore[type-var]  # all three are generators
            for (_, after), result in zip(draws(), made, strict=False):
                self._count(result)
                yield result.batch, after

    def _count(self, made: _Made) -> None:
        self._read += self.batch_size + len(made.bad)
        for bad in made.bad:
            self.skipped[bad.reason] += 1
            if bad.key not in self._named:
                self._named.add(bad.key)
                _logger.warning("skipped %s: %s", bad.key, bad.message)
        count = self.skipped.total()
        looked_at = max(self._read, min(LOOK, self.samples_per_epoch))
        if made.failed or too_many_bad(count, looked_at, self.max_bad_fraction, different=len(self._named)):
            reasons = ", ".join(f"{number} x {reason}" for reason, number in self.skipped.most_common())
            raise DataError(
                f"{count} of the first {self._read} samples could not be used ({reasons}; the last was "
                f"{made.bad[-1].key}), and max_bad_fraction is {self.max_bad_fraction}; mend the data or raise it"
            )


def too_many_bad(bad: int, looked_at: int, fraction: float, *, different: int) -> bool:
    """Whether the data counts as broken: more than a `fraction` of the samples, 0-1, cannot be used.

    A single one is never too many, so that a broken photograph does not spoil a small set; with a fraction of 0 it is.

    looked_at: samples so far, but `LOOK` (or all, if there are fewer) at least.
    different: how many different ones were bad; over several epochs each is counted again.
    """
    return bad > fraction * looked_at and (different > 1 or fraction == 0)


class _Bad(NamedTuple):
    key: str
    reason: str
    message: str


@dataclass(frozen=True)
class _Made:
    """A batch, or none where a place could not be filled, and what was passed over on the way."""

    batch: Batch
    bad: list[_Bad]
    failed: bool = False


@dataclass(frozen=True)
class _Work(Dataset[_Made]):
    """What a worker needs to turn draws into a batch."""

    source: Source
    seed: int
    samples: int

    def __getitem__(self, draws: list[Draw]) -> _Made:
        bad: list[_Bad] = []
        samples = []
        for draw in draws:
            sample = self._sample(draw, bad)
            if sample is None:
                return _Made({}, bad, failed=True)
            samples.append(sample)
        return _Made(collate(samples), bad)

    def _sample(self, draw: Draw, bad: list[_Bad]) -> dict[str, Any] | None:
        """The drawn sample or its substitute; None after too many bad ones in a row."""
        for attempt in range(_SUBSTITUTES):
            random = generator(self.seed, draw, attempt)
            index = int(random.integers(self.samples)) if attempt else draw.sample
            try:
                return self.source.load(index, random)
            except BadSample as error:
                bad.append(_Bad(self.source.key(index), error.reason, str(error)))
            except ImageError as error:
                bad.append(_Bad(self.source.key(index), "broken image", str(error)))
        return None


@dataclass(frozen=True)
class _Restartable:
    """`DataLoader` asks for an object that can be walked, not for a walk."""

    draws: Any

    def __iter__(self) -> Iterator[list[Draw]]:
        return (batch for batch, _ in self.draws())


def _in_threads(work: _Work, batches: Iterator[list[Draw]], workers: int) -> Iterator[_Made]:
    with ThreadPoolExecutor(workers, thread_name_prefix="lexiseg-data") as pool:
        waiting = deque(pool.submit(work.__getitem__, draws) for draws in islice(batches, workers * _AHEAD))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.append(pool.submit(work.__getitem__, next(batches)))
        finally:
            for future in waiting:
                future.cancel()


def _in_processes(work: _Work, batches: Iterable[list[Draw]], workers: int) -> Iterator[_Made]:
    # with its own generator it draws no number from torch's global one, which would change a resumed run
    loader = DataLoader(
        work,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_same,
        worker_init_fn=_begin,
        generator=torch.Generator(),
    )
    yield from loader


def _begin(_: int) -> None:
    """A signal to all processes of a job is for the main one, which ends its step first; a second one ends a worker."""
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _same(made: Any) -> Any:
    return made


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """The samples' fields as a batch: tensors and arrays stacked [B, ...], everything else in a list.

    `key`, `image` and `text` of a sample are `keys`, `images` and `texts` of the batch; other names stay.
    """
    return {_PLURAL.get(name, name): _stack([sample[name] for sample in samples]) for name in samples[0]}


def _stack(values: list[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return torch.stack(values)
    if isinstance(values[0], np.ndarray):
        return torch.from_numpy(np.stack(values))
    return values
