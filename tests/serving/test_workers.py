"""Batches: what waits together passes the network together, and nobody pays for a neighbour."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from inference.fakes import Colours, flag, predictor
from lexiseg.serving.metrics import Metrics
from lexiseg.serving.workers import Job, Worker

SOON = 60.0  # seconds


def worker(segmenter: Any, *, most: int = 8, more: int = 0) -> Worker:
    metrics = Metrics(cached=lambda: 0, waiting=lambda: 0)
    return Worker("colours", predictor(segmenter), metrics, most=most, more=lambda: more)


def job(one: Worker, rgb: np.ndarray, words: str | None = "red, green, blue, yellow", seconds: float = SOON) -> Job:
    ask = None if words is None else lambda model, embedded: model.ask(words).answer(embedded)
    return Job(one.predictor.read(rgb), ask, time.monotonic() + seconds)


def run(one: Worker, *jobs: Job) -> None:
    """All jobs wait before the first is worked on."""
    for each in jobs:
        one.submit(each)
    one.start()
    one.close(20)


def test_photographs_that_wait_together_pass_the_network_together_by_size() -> None:
    colours = Colours()
    one = worker(colours)
    pictures = [flag(), flag(24, 32), flag()[:, ::-1].copy(), flag(24, 32)]
    jobs = [job(one, picture) for picture in pictures]
    run(one, *jobs)
    assert sorted(shape[0] for shape in colours.batches) == [2, 2]
    for each, picture in zip(jobs, pictures, strict=True):
        expected = predictor().segment(picture, "red, green, blue, yellow").labels
        np.testing.assert_array_equal(each.future.result(1).answer.labels, expected)


def test_a_batch_has_at_most_so_many_photographs() -> None:
    colours = Colours()
    one = worker(colours, most=3)
    run(one, *(job(one, flag()) for _ in range(7)))
    assert [shape[0] for shape in colours.batches] == [3, 3, 1]


def test_a_batch_that_fails_is_tried_one_by_one() -> None:
    class Picky(Colours):
        def embed_image(self, images):
            if (images == 7).all(dim=(1, 2, 3)).any():
                raise RuntimeError("not this one")
            return super().embed_image(images)

    one = worker(Picky())
    jobs = [job(one, picture) for picture in (flag(), np.full((48, 64, 3), 7, np.uint8), flag())]
    run(one, *jobs)
    assert jobs[0].future.result(1).answer is not None
    assert jobs[2].future.result(1).answer is not None
    with pytest.raises(RuntimeError, match="not this one"):
        jobs[1].future.result(1)


def test_a_question_that_fails_fails_alone() -> None:
    one = worker(Colours())
    jobs = [job(one, flag(), "red"), job(one, flag(), "a colour nobody knows"), job(one, flag(), "blue")]
    run(one, *jobs)
    assert jobs[0].future.result(1).answer.names == ("red",)
    assert jobs[2].future.result(1).answer.names == ("blue",)
    with pytest.raises(KeyError):
        jobs[1].future.result(1)


def test_what_nobody_waits_for_is_not_worked_on() -> None:
    colours = Colours()
    one = worker(colours)
    jobs = [job(one, flag(), seconds=-1), job(one, flag()), job(one, flag())]
    jobs[1].future.cancel()
    run(one, *jobs)
    assert [shape[0] for shape in colours.batches] == [1]
    for each in jobs[:2]:
        with pytest.raises(CancelledError):
            each.future.result(1)
    assert jobs[2].future.result(1).queued >= 0


def test_an_embedding_is_asked_about_without_looking_again() -> None:
    colours = Colours()
    one = worker(colours)
    first = job(one, flag(), None)
    run(one, first)
    done = first.future.result(1)
    assert done.answer is None
    other = Worker("colours", one.predictor, one.metrics, most=8)
    question = Job(done.embedded, lambda model, seen: model.ask("red, blue").answer(seen), time.monotonic() + SOON)
    run(other, question)
    assert question.future.result(1).answer.names == ("red", "blue")
    assert len(colours.batches) == 1


def test_a_batch_waits_a_moment_for_requests_that_are_on_their_way() -> None:
    colours = Colours()
    one = worker(colours, more=2)
    late = job(one, flag())
    threading.Timer(0.001, one.submit, [late]).start()
    first = job(one, flag())
    one.submit(first)
    one.start()
    first.future.result(10)
    late.future.result(10)
    one.close(10)
    assert sum(shape[0] for shape in colours.batches) == 2
    alone = worker(Colours(), more=1)  # nobody else is on the way: it does not wait
    only = job(alone, flag(), None)
    alone.submit(only)
    start = time.monotonic()
    assert len(alone._take()) == 1
    assert time.monotonic() - start < 0.003


def test_closing_finishes_what_waits() -> None:
    one = worker(Colours())
    jobs = [job(one, flag()) for _ in range(12)]
    run(one, *jobs)
    assert all(each.future.done() and not each.future.cancelled() for each in jobs)
