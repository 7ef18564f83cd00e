from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.data.order import Draw, Order, generator
from lexiseg.errors import DataError

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)


def take(order, count, position=None, **settings):
    return list(islice(order.batches(position, **settings), count))


@given(SIZES, st.integers(0, 5), st.integers(1, 4))
def test_every_epoch_draws_every_sample_once(lengths, epoch, mix):
    assert sorted(Order(lengths, seed=3, mix=mix).epoch(epoch)) == list(range(sum(lengths)))


def test_the_order_is_a_function_of_seed_and_epoch():
    one, again, other = Order([100], seed=1), Order([100], seed=1), Order([100], seed=2)
    assert np.array_equal(one.epoch(4), again.epoch(4))
    assert not np.array_equal(one.epoch(4), one.epoch(5))
    assert not np.array_equal(one.epoch(4), other.epoch(4))


def test_without_shuffling_the_samples_come_as_they_are_listed():
    assert np.array_equal(Order([3, 4], shuffle=False).epoch(7), np.arange(7))


def test_only_so_many_blocks_are_read_at_a_time():
    order = Order([10] * 40, seed=0, mix=4).epoch(0)
    for start in range(0, 400, 40):
        assert len({index // 10 for index in order[start : start + 40]}) == 4
    assert not np.array_equal(order, np.sort(order))


@given(SIZES, st.integers(1, 5), st.integers(1, 4), st.integers(1, 8))
def test_the_processes_parts_laid_end_to_end_are_the_batch_of_one_process(lengths, batch_size, world, steps):
    order = Order(lengths, seed=0)
    whole = take(order, steps, batch_size=batch_size * world)
    parts = [take(order, steps, batch_size=batch_size, rank=rank, world=world) for rank in range(world)]
    for step in range(steps):
        assert [draw for part in parts for draw in part[step][0]] == whole[step][0]
        assert all(part[step][1] == whole[step][1] for part in parts)


@given(SIZES, st.integers(1, 30), st.integers(0, 6))
def test_a_walk_goes_on_from_any_position_as_if_it_had_not_stopped(lengths, batch_size, stop):
    order = Order(lengths, seed=5)
    walk = take(order, stop + 4, batch_size=batch_size)
    position = walk[stop - 1][1] if stop else None
    assert take(Order(lengths, seed=5), 4, position, batch_size=batch_size) == walk[stop:]


def test_batches_span_epochs_and_lose_nothing():
    batches = take(Order([10], seed=0), 5, batch_size=4)
    samples = [draw.sample for draws, _ in batches for draw in draws]
    assert sorted(samples[:10]) == sorted(samples[10:]) == list(range(10))
    assert batches[-1][1] == {"epoch": 2, "sample": 0}


def test_each_draw_has_random_numbers_of_its_own():
    draws = [Draw(0, epoch, place) for epoch in range(3) for place in range(3)]
    numbers = {generator(seed, draw, attempt).random() for seed in (0, 1) for draw in draws for attempt in (0, 1)}
    assert len(numbers) == 36


@pytest.mark.parametrize("position", [{"epoch": 0, "sample": 10}, {"epoch": -1, "sample": 0}, {"step": 3}])
def test_a_position_of_other_data_is_refused(position):
    with pytest.raises(DataError, match="data set of 10 samples"):
        take(Order([10]), 1, position, batch_size=2)


def test_no_samples_are_an_error():
    with pytest.raises(DataError, match="no samples"):
        Order([0, 0])
