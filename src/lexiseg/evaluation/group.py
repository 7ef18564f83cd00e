"""Names the processes that evaluate together.

They are those of torch.distributed, or this one alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as distributed

__all__ = ["Processes", "group"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """rank: of this process, from 0; world: how many there are."""

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Processes:
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def main(self) -> bool:
        return self.rank == 0

    def of_main(self, value: Value) -> Value:
        """What the main process has; every process must call."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        distributed.broadcast_object_list(box)
        found: Value = box[0]
        return found

    def of_all(self, value: Value) -> list[Value]:
        """What each process has, in order; every process must call."""
        if self.world == 1:
            return [value]
        boxes: list[Any] = [None] * self.world
        distributed.all_gather_object(boxes, value)
        return boxes


@contextlib.contextmanager
def group(world: int) -> Iterator[Processes]:
    """Joins the group that torchrun or `accelerate launch` set the environment up for, where there is more than one
    process and no group yet, and leaves it at the end."""
    joined = world > 1 and not distributed.is_initialized()
    if joined:
        distributed.init_process_group("gloo")
    try:
        yield Processes.current()
    finally:
        if joined:
            distributed.destroy_process_group()
