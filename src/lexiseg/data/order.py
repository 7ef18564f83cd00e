"""Orders samples by seed and epoch, and nothing else.

It also says where in that order a run stands.

The order belongs to the whole run, not to a process. A step takes the next `world * batch_size` places of it, and
process `rank` takes the `rank`-th run of `batch_size` of them. So the batches of N processes laid end to end are the
batch of one process with the global batch size, and a position means the same to every number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import DataError

__all__ = ["START", "Draw", "Order", "Position", "generator"]

Position = dict[str, int]  # {"epoch": how many are complete, "sample": how many of the next one are drawn}; plain JSON

START: Position = {"epoch": 0, "sample": 0}


class Draw(NamedTuple):
    """Sample number `sample` of the source, drawn as the `place`-th of its epoch."""

    sample: int
    epoch: int
    place: int


def generator(seed: int, draw: Draw, attempt: int = 0) -> np.random.Generator:
    """The random numbers of one draw: the same in any process, at any time."""
    return np.random.default_rng([seed, draw.epoch, draw.place, attempt])


class Order:
    """An endless walk over the samples in which every epoch draws each of them once; batches may span two epochs.

    numpy's generator shuffles, so an order is that of one version of numpy.

    lengths: samples in each block of the source. Blocks are what is cheap to read together (tar shards); a source
        that is equally fast everywhere is one block.
    seed: with the epoch's number it decides the order.
    shuffle: False walks from the first sample to the last in every epoch.
    mix: blocks are shuffled, and samples are shuffled among this many neighbouring blocks, so that only so many
        shards are read at a time.

    Raises `DataError` where there are no samples.
    """

    def __init__(self, lengths: Sequence[int], *, seed: int = 0, shuffle: bool = True, mix: int = 16) -> None:
        self._lengths = np.asarray(lengths, np.int64)
        self._seed, self._shuffle, self._mix = seed, shuffle, mix
        self._epochs: dict[int, NDArray[np.int64]] = {}
        if not len(self):
            raise DataError("the data has no samples; check the paths and what was skipped when it was listed")

    def __len__(self) -> int:
        return int(self._lengths.sum())

    def epoch(self, number: int) -> NDArray[np.int64]:
        """The indices of all samples in the order of epoch `number`."""
        if not self._shuffle:
            return np.arange(len(self))
        random = np.random.default_rng([self._seed, number])
        if len(self._lengths) <= self._mix:
            return random.permutation(len(self))
        first = np.cumsum(self._lengths) - self._lengths
        blocks = random.permutation(len(self._lengths))
        groups = (blocks[start : start + self._mix] for start in range(0, len(blocks), self._mix))
        return np.concatenate(
            [
                random.permutation(np.concatenate([first[block] + np.arange(self._lengths[block]) for block in group]))
                for group in groups
            ]
        )

    def batches(
        self, position: Mapping[str, int] | None = None, *, batch_size: int, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[list[Draw], Position]]:
        """From `position` on, for ever: the draws of each of this process's batches, and the position after it.

        Raises `DataError` for a position that these samples cannot have.
        """
        epoch, place = self._check(START if position is None else position)
        while True:
            own = range(place + rank * batch_size, place + (rank + 1) * batch_size)
            draws = [self._draw(epoch + at // len(self), at % len(self)) for at in own]
            passed, place = divmod(place + world * batch_size, len(self))
            epoch += passed
            yield draws, {"epoch": epoch, "sample": place}

    def _draw(self, epoch: int, place: int) -> Draw:
        if epoch not in self._epochs:
            self._epochs = {number: order for number, order in self._epochs.items() if number == epoch - 1}
            self._epochs[epoch] = self.epoch(epoch)
        return Draw(int(self._epochs[epoch][place]), epoch, place)

    def _check(self, position: Mapping[str, int]) -> tuple[int, int]:
        epoch, place = position.get("epoch", -1), position.get("sample", -1)
        if epoch < 0 or not 0 <= place < len(self):
            raise DataError(
                f"position {dict(position)} is not one of a data set of {len(self)} samples; "
                "resume with the data that the run began with, or start again"
            )
        return epoch, place
