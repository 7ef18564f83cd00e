from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
from itertools import islice

import numpy as np
import pytest
import torch
from number_source import Numbers

from lexiseg.data.loader import Loader, collate
from lexiseg.errors import DataError, ImageError, LexisegError

WORKERS = [(0, "threads"), (1, "threads"), (3, "threads"), (1, "processes"), (2, "processes")]


def read(source, steps, position=None, *, rank=0, world=1, **settings):
    loader = Loader(source, **{"batch_size": 4, "seed": 7} | settings)
    return list(islice(loader.stream(position, rank=rank, world=world), steps)), loader


def content(batches):
    return [(batch["keys"], batch["images"].tolist(), position) for batch, position in batches]


@pytest.mark.parametrize(("workers", "kind"), WORKERS)
def test_batches_are_the_same_whatever_the_workers(workers, kind):
    source = Numbers([5, 6, 7], bad=[3, 11])
    expected, _ = read(source, 12, max_bad_fraction=0.5)
    batches, loader = read(source, 12, workers=workers, kind=kind, max_bad_fraction=0.5)
    assert content(batches) == content(expected)
    assert set(loader.skipped) == {"broken image"}


@pytest.mark.parametrize(("workers", "kind"), [(0, "threads"), (2, "threads"), (2, "processes")])
def test_a_stream_goes_on_in_the_middle_of_an_epoch_as_if_it_had_not_stopped(workers, kind):
    source = Numbers([23], bad=[5])
    whole, _ = read(source, 15, max_bad_fraction=0.5)
    position = json.loads(json.dumps(whole[6][1]))
    rest, _ = read(source, 8, position, workers=workers, kind=kind, max_bad_fraction=0.5)
    assert content(rest) == content(whole[7:])


def test_a_signal_to_a_whole_job_leaves_its_workers_to_the_main_process():
    expected = content(read(Numbers([23]), 12)[0])
    loader = Loader(Numbers([23]), batch_size=4, seed=7, workers=1, kind="processes")
    with contextlib.closing(loader.stream(None, rank=0, world=1)) as stream:
        found = [next(stream)]
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGTERM)
        found += islice(stream, 11)
        assert worker.is_alive()
    assert content(found) == expected
    worker.join(10)
    assert not worker.is_alive()


def test_processes_share_out_the_epoch():
    parts = [read(Numbers([24]), 3, batch_size=2, rank=rank, world=4)[0] for rank in range(4)]
    keys = [key for part in parts for batch, _ in part for key in batch["keys"]]
    assert sorted(keys) == sorted(f"number-{index}" for index in range(24))


def test_random_numbers_change_from_epoch_to_epoch():
    batches, _ = read(Numbers([4]), 2)
    first, second = (dict(zip(batch["keys"], batch["images"][:, 1].tolist(), strict=True)) for batch, _ in batches)
    assert all(first[key] != second[key] for key in first)


def test_torchs_own_random_numbers_are_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read(Numbers([8]), 2, workers=1)
    assert torch.equal(torch.rand(3), expected)


def test_bad_samples_are_replaced_counted_by_reason_and_named_once(caplog):
    source = Numbers([40], bad=[3, 8, 9])
    with caplog.at_level(logging.WARNING):
        batches, loader = read(source, 20, max_bad_fraction=0.2)
    assert all(len(batch["keys"]) == 4 for batch, _ in batches)
    assert not {"number-3", "number-8", "number-9"} & {key for batch, _ in batches for key in batch["keys"]}
    assert loader.skipped["broken image"] >= 4  # twice each in two epochs, and as substitutes
    assert loader.skipped["empty caption"] >= 2
    for index in source.bad:
        assert len([record for record in caplog.records if f"number-{index}:" in record.getMessage()]) == 1


def test_a_bad_sample_changes_no_other_place():
    good, _ = read(Numbers([20]), 5)
    bad, _ = read(Numbers([20], bad=[13]), 5, max_bad_fraction=1)
    differing = [
        (key, other)
        for (batch, _), (changed, _) in zip(good, bad, strict=True)
        for key, other in zip(batch["keys"], changed["keys"], strict=True)
        if key != other
    ]
    assert [key for key, _ in differing] == ["number-13"]


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_bad_samples_stop_the_run(workers):
    with pytest.raises(DataError, match=r"max_bad_fraction is 0.1; mend the data"):
        read(Numbers([100], bad=range(0, 100, 5)), 50, max_bad_fraction=0.1, workers=workers)
    read(Numbers([100], bad=range(0, 100, 20)), 50, max_bad_fraction=0.1, workers=workers)


def test_a_single_bad_sample_does_not_spoil_a_small_set():
    read(Numbers([10], bad=[3]), 10, max_bad_fraction=0.01)  # four epochs of ten
    with pytest.raises(DataError, match="of the first 11 samples"):
        read(Numbers([10], bad=[3, 4]), 10, max_bad_fraction=0.01)


def test_with_no_bad_sample_allowed_the_first_one_stops_the_run():
    with pytest.raises(DataError, match="1 x broken image"):
        read(Numbers([10_000], bad=[1]), 2501, max_bad_fraction=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_data_without_one_good_sample_stops_at_once(workers):
    with pytest.raises(DataError, match="could not be used"):
        read(Numbers([10], bad=range(10)), 1, max_bad_fraction=1, workers=workers)


def test_an_unreadable_picture_counts_as_a_broken_image():
    class Unreadable(Numbers):
        def load(self, index, random):
            if index == 2:
                raise ImageError("cut off")
            return super().load(index, random)

    _, loader = read(Unreadable([10]), 3, max_bad_fraction=1)
    assert loader.skipped["broken image"] >= 1


def test_a_mistake_in_the_source_is_not_taken_for_a_bad_sample():
    class Wrong(Numbers):
        def load(self, index, random):
            raise RuntimeError("a bug")

    for workers in (0, 1):
        with pytest.raises(RuntimeError, match="a bug"):
            read(Wrong([10]), 1, workers=workers)


def test_the_manifest_tells_samples_seed_and_source():
    loader = Loader(Numbers([3, 4]), batch_size=2, seed=5)
    assert loader.samples_per_epoch == 7
    assert json.loads(json.dumps(loader.manifest()))["source"] == {"kind": "numbers", "lengths": [3, 4]}


def test_stacking_keeps_lists_and_stacks_arrays():
    samples = [{"key": str(i), "labels": np.full((2, 3), i), "image": torch.ones(3), "prompts": ["x"]} for i in (0, 1)]
    batch = collate(samples)
    assert batch["keys"] == ["0", "1"]
    assert batch["labels"].shape == (2, 2, 3)
    assert batch["images"].shape == (2, 3)
    assert batch["prompts"] == [["x"], ["x"]]


def test_bad_samples_are_errors_a_user_can_catch():
    with pytest.raises(LexisegError):
        Numbers([3], bad=[1]).load(1, np.random.default_rng(0))
