"""Work that several processes share. Starting one takes seconds, so each test that does looks at several things."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from lexiseg.errors import LexisegError, SettingError, UnknownName
from lexiseg.inference import workers as processes
from lexiseg.inference.workers import affordable, in_order


def squares(items: Iterator[int]) -> Iterator[tuple[int, int]]:
    for item in items:
        time.sleep(0.01 * (item % 3))
        yield item * item, os.getpid()


def two_ahead(items: Iterator[int]) -> Iterator[int]:
    """Draws before it answers, as the predictor does."""
    waiting: list[int] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 2:
            yield -waiting.pop(0)
    yield from (-item for item in waiting)


def choosy(items: Iterator[int]) -> Iterator[int]:
    for item in items:
        if item == 5:
            raise UnknownName("number", "fife", ["five"])
        yield item


def buggy(items: Iterator[int]) -> Iterator[int]:
    for item in items:
        yield 1 // (3 - item)


def dying(items: Iterator[int]) -> Iterator[int]:
    for item in items:
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


@pytest.mark.parametrize("work", [squares, two_ahead])
def test_one_process_is_this_one(work):
    answers = list(in_order(work, range(9)))
    if work is squares:
        assert answers == [(item * item, os.getpid()) for item in range(9)]
    else:
        assert answers == [-item for item in range(9)]


def test_several_answer_in_the_order_of_the_list():
    answers = list(in_order(squares, range(60), processes=2))
    assert [square for square, _ in answers] == [item * item for item in range(60)]
    assert os.getpid() not in {process for _, process in answers}
    assert list(in_order(two_ahead, range(7), processes=2)) == [-item for item in range(7)]


@pytest.mark.parametrize("count", [1, 2])
def test_errors_come_out_as_they_are(count):
    answers = in_order(choosy, range(9), processes=count)
    with pytest.raises(UnknownName, match=r"no number is called 'fife'; did you mean 'five'\?"):
        list(answers)


def test_a_bug_shows_where_it_is():
    with pytest.raises(RuntimeError, match=r"in buggy[\s\S]*ZeroDivisionError"):
        list(in_order(buggy, range(9), processes=2))


def test_a_process_that_is_killed_is_an_error():
    with pytest.raises(LexisegError, match=r"ended with code -9.*use fewer processes"):
        list(in_order(dying, range(9), processes=2))


def test_no_more_processes_than_photographs_and_memory(monkeypatch):
    monkeypatch.setattr(processes, "_free", lambda: 9 * processes.EACH // 2)
    assert affordable(8, 100) == 4
    assert affordable(8, 3) == 3
    assert affordable(2, 100) == 2
    monkeypatch.setattr(processes, "_free", lambda: 0)
    assert affordable(8, 100) == 1
    with pytest.raises(SettingError, match="0 processes"):
        affordable(0, 5)


def test_memory_and_cores_are_numbers():
    assert processes._free() > 0
    assert processes._cores() >= 1
