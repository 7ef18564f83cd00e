"""The pipeline keeps order, works ahead within bounds, and stops for what goes wrong in any of its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lexiseg.evaluation import pipeline
from lexiseg.evaluation.pipeline import Profile


def same(items: Iterator[int]) -> Iterator[int]:
    yield from items


def through(samples: Any, **stages: Any) -> tuple[list[int], Profile]:
    recorded: list[int] = []
    whole = {"read": lambda sample: sample, "label": same, "record": recorded.append} | stages
    return recorded, pipeline.run(samples, **whole)


def test_images_stay_in_their_order() -> None:
    def slow_at_first(sample: int) -> int:
        time.sleep(0.02 if sample % 3 == 0 else 0)
        return sample

    recorded, profile = through(range(20), read=slow_at_first, readers=4)
    assert recorded == list(range(20))
    assert profile.images == 20


def test_no_more_is_read_ahead_than_was_allowed() -> None:
    read, labelled = [], []

    def note(sample: int) -> int:
        read.append(sample)
        return sample

    def label(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            time.sleep(0.002)
            assert len(read) <= len(labelled) + 1 + 3
            labelled.append(item)
            yield item

    through(range(30), read=note, label=label, ahead=3)
    assert len(labelled) == 30


def test_reading_goes_on_while_the_model_works() -> None:
    second_was_read = threading.Event()

    def read(sample: int) -> int:
        if sample == 1:
            second_was_read.set()
        return sample

    def label(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            assert second_was_read.wait(5)  # while the first is with the model
            yield item

    assert through(range(2), read=read, label=label)[0] == [0, 1]


def test_the_metric_counts_while_the_model_works() -> None:
    counted = threading.Event()

    def label(items: Iterator[int]) -> Iterator[int]:
        for item in items:
            assert item == 0 or counted.wait(5)  # the first is counted while the second is with the model
            yield item

    through(range(2), label=label, record=lambda _: counted.set())


@pytest.mark.parametrize("stage", ["read", "label", "record"])
def test_what_a_stage_raises_ends_the_run(stage: str) -> None:
    def broken(value: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        through(range(50), **{stage: broken})


def test_nothing_is_recorded_after_what_could_not_be() -> None:
    recorded = []

    def record(item: int) -> None:
        if item == 2:
            time.sleep(0.05)  # the next answers are waiting by then
            raise ZeroDivisionError
        recorded.append(item)

    with pytest.raises(ZeroDivisionError):
        through(range(10), record=record)
    assert recorded == [0, 1]


def test_the_profile_tells_who_waited() -> None:
    def slow(sample: int) -> int:
        time.sleep(0.01)
        return sample

    def slow_label(items: Iterator[int]) -> Iterator[int]:
        return map(slow, items)

    _, reading = through(range(10), read=slow, readers=1)
    assert reading.waiting_for_data > 0.5 * reading.seconds
    _, model = through(range(10), label=slow_label)
    assert model.model > 0.8 * model.seconds
    for profile in (reading, model):
        parts = profile.model + profile.waiting_for_data + profile.waiting_for_metric
        assert parts == pytest.approx(profile.seconds)
        assert 0 < profile.first < profile.seconds


def test_no_images_are_no_error() -> None:
    recorded, profile = through([])
    assert (recorded, profile.images) == ([], 0)
