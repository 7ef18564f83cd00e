from __future__ import annotations

import os
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.errors import LexisegError
from lexiseg.speed import measuring


def test_ways_take_turns_and_the_first_turn_does_not_count() -> None:
    called: list[str] = []
    ways = {name: lambda name=name: called.append(name) for name in "ab"}
    found = measuring.race(ways, repeats=3, warm_up=1)
    assert called == list("abababab")
    assert [taken["runs"] for taken in found.values()] == [3, 3]


def test_a_race_that_is_out_of_time_still_measures_each_way_once() -> None:
    called: list[str] = []
    found = measuring.race({"a": lambda: called.append("a")}, repeats=9, seconds=0.0)
    assert len(called) == 2
    assert found["a"]["runs"] == 1


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=40))
def test_a_summary_lies_within_its_runs(times: list[float]) -> None:
    found = measuring.summary(times)
    assert found["median"] == statistics.median(times)
    assert found["min"] == min(times) <= found["median"] <= found["p90"] <= max(times)


@given(st.floats(-2, 3), st.floats(0.01, 100))
def test_the_exponent_of_a_power_law_is_its_power(power: float, factor: float) -> None:
    sizes = [1.0, 2.0, 5.0, 11.0]
    assert measuring.exponent(sizes, [factor * size**power for size in sizes]) == pytest.approx(power, abs=1e-6)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says")
def test_memory_that_was_given_back_counts_too() -> None:
    def job() -> None:
        np.ones(100_000_000, np.uint8)

    extra = measuring.extra_memory(job)
    assert extra is not None
    assert 95 <= extra <= 130


def test_a_new_process_is_another_one() -> None:
    assert measuring.in_new_process(os.getpid) != os.getpid()


def test_a_process_that_the_system_ends_is_an_error_that_says_why() -> None:
    with pytest.raises(LexisegError, match="memory"):
        measuring.in_new_process(os._exit, 9)


def test_circumstances_name_machine_versions_and_commit() -> None:
    found = measuring.circumstances()
    assert {"when", "commit", "machine", "versions", "foreign_load_cores"} <= found.keys()
    assert found["foreign_load_cores"] is None or found["foreign_load_cores"] >= 0
