"""Tallies add up over shards, survive JSON, and label maps change their classes without losing a pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.errors import DataError
from lexiseg.evaluation.group import Processes
from lexiseg.evaluation.tallies import Tallies, relabelled
from lexiseg.evaluation.unfinished import Unfinished
from lexiseg.metrics.confusion import unlabelled


def maps(seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return tuple(random.choice([*range(classes), 255], (5, 6)).astype(np.uint8) for _ in range(2))


def tallied(seeds: range) -> Tallies:
    found = Tallies.empty(4, own=True, boundary=True)
    for seed in seeds:
        labels, truth = maps(seed)
        found.update(f"image {seed}", labels, truth, own=labels if seed % 2 else None)
    return found


@given(st.integers(0, 6))
def test_shards_add_up_to_the_whole(cut: int) -> None:
    parts = tallied(range(cut)) + tallied(range(cut, 6))
    assert parts.to_json() == tallied(range(6)).to_json()


def test_tallies_survive_json() -> None:
    before = tallied(range(3))
    before.skip("broken", "no picture")
    after = Tallies.from_json(json.loads(json.dumps(before.to_json())))
    assert after.to_json() == before.to_json()
    assert after.done == {"image 0", "image 1", "image 2", "broken"}


def test_shards_that_share_an_image_are_refused() -> None:
    with pytest.raises(DataError, match="in both shards"):
        tallied(range(2)) + tallied(range(1, 3))


def test_shards_counted_in_different_ways_are_refused() -> None:
    with pytest.raises(DataError, match="count all in one way"):
        tallied(range(1)) + Tallies.empty(4)


@pytest.mark.parametrize("content", [{}, {"confusion": {}}, {"confusion": 1, "own": None, "boundary": 3, "skipped": 0}])
def test_other_json_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(DataError):
        Tallies.from_json(content)


@given(k=st.integers(1, 300), extra=st.integers(0, 300), to_background=st.booleans(), seed=st.integers(0, 99))
def test_classes_are_renumbered_pixel_by_pixel(k: int, extra: int, to_background: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = k + extra + to_background
    index_of = [*random.permutation(k + extra)[:k].tolist(), classes - 1 if to_background else classes]
    none = unlabelled(k)
    labels = random.choice([*range(k), none], (7, 9)).astype(np.uint8 if none == 255 else np.uint16)
    expected = [[index_of[k if value == none else value] for value in row] for row in labels.tolist()]
    expected = np.array(expected)
    expected[expected == classes] = unlabelled(classes)
    found = relabelled(labels, index_of, classes)
    assert np.array_equal(found, expected)
    assert found.dtype == (np.uint8 if classes <= 255 else np.uint16)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text("{}")
    (tmp_path / "tallies-000-000.json").write_text("{")
    with pytest.raises(DataError, match=r"tallies-000-000\.json cannot be read"):
        Unfinished.open(tmp_path, {}, empty=Tallies.empty(2), resume=True, processes=Processes())
