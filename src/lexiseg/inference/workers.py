"""Works through one list in several processes, answering in order.

Each process starts anew (a fork would inherit locks and threads of torch), builds what it needs for itself, and takes
the next item when it is ready for one, so that a slow photograph does not hold up the others. Torch's threads are
divided among them: P processes on K cores run K / P threads each.

One process with all threads is the default: two beside it have not been timed on a quiet machine, and they cost
another copy of the weights and seconds of starting. More are for small models and many cores, where reading and
writing take a larger part. Where a photograph overflows half precision, the process that meets it alone widens its own
from then on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lexiseg.errors import LexisegError, SettingError

__all__ = ["affordable", "in_order"]

POLL = 0.5  # seconds between looks at whether all processes are alive
EACH = 2 << 30  # bytes that a process is given before there are fewer: torch, ViT-B/16 and its activations

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Work = Callable[[Iterator[Item]], Iterator[Answer]]


def affordable(wanted: int, items: int) -> int:
    """How many processes to start: no more than items, nor than fit into the memory that is free now.

    Raises `SettingError` for less than one.
    """
    if wanted < 1:
        raise SettingError(f"{wanted} processes cannot work; give 1 or more")
    return max(1, min(wanted, items, _free() // EACH))


def in_order(work: Work[Item, Answer], items: Sequence[Item], *, processes: int = 1) -> Iterator[Answer]:
    """The answers of `work` to all items, in their order.

    work: called in each process with the items it takes; yields one answer for each, in order. It may draw some items
        in advance. With more than one process it, the items and the answers are pickled.

    What `work` raises in any process ends all of them and is raised here. Raises `LexisegError` for a process that is
    killed, which is how a machine out of memory shows.
    """
    if processes <= 1:
        yield from work(iter(items))
        return
    context = multiprocessing.get_context("spawn")
    turn, found = context.Value("q", 0), context.Queue()
    threads = max(1, _cores() // processes)
    # daemons, so that none is left behind by a caller that ends early
    workers = [
        context.Process(target=_serve, args=(work, items, turn, found, threads), daemon=True) for _ in range(processes)
    ]
    try:
        for worker in workers:
            worker.start()
        early: dict[int, Any] = {}
        for place in range(len(items)):
            while place not in early:
                number, answer = _next(found, workers)
                if number is None:
                    raise answer
                early[number] = answer
            yield early.pop(place)
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()


def _serve(work: Work[Any, Any], items: Sequence[Any], turn: Any, found: Any, threads: int) -> None:
    """What a process does: takes places in the list until there are none, and says what came of each."""
    import torch

    torch.set_num_threads(threads)
    taken: list[int] = []

    def take() -> Iterator[Any]:
        while True:
            with turn.get_lock():
                place = turn.value
                turn.value += 1
            if place >= len(items):
                return
            taken.append(place)
            yield items[place]

    try:
        for count, answer in enumerate(work(take())):
            found.put((taken[count], answer))
    except LexisegError as error:
        found.put((None, _portable(error)))
    except KeyboardInterrupt:  # the whole group gets it; the caller's own says so
        pass
    except BaseException:
        found.put((None, RuntimeError(f"a process failed:\n{traceback.format_exc()}")))


def _portable(error: LexisegError) -> LexisegError:
    """The error, or its message where it cannot be pickled."""
    with contextlib.suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return error
    return LexisegError(str(error))


def _next(found: Any, workers: Sequence[Any]) -> tuple[int | None, Any]:
    while True:
        with contextlib.suppress(queue.Empty):
            answer: tuple[int | None, Any] = found.get(timeout=POLL)
            return answer
        dead = [worker.exitcode for worker in workers if worker.exitcode]
        if dead:
            raise LexisegError(
                f"a process ended with code {dead[0]} before its work was done, most likely for lack of memory; "
                "use fewer processes or smaller photographs"
            )


def _cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _free() -> int:
    """Bytes of memory that are free now; unlimited where the system does not report it."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return 1 << 62
