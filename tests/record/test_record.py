"""Nothing that works may change its result unseen: labels, scores and losses equal the record.

The record was made at the commit before the contracts were redesigned; its losses anew when training began to normalise
as inference does, since their last digits changed (by 1e-7 at the first step). On the machine that made it everything
is compared to the byte; elsewhere kernels round otherwise, so nearly all pixels have to agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import record


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are split by threads, so their number decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(record.MAPS) as arrays:
        return dict(arrays)


def same_machine() -> bool:
    return bool(record.machine() == json.loads(record.MACHINE.read_text(encoding="utf-8")))


@pytest.mark.parametrize("case", record.CASES, ids=lambda case: case.name)
def test_labels_and_scores_are_those_of_the_record(case: record.Case, recorded: dict[str, np.ndarray]) -> None:
    for name, found in record.maps(case).items():
        wanted = recorded[name]
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        if same_machine():
            assert np.array_equal(found, wanted), name
        elif name.endswith("labels"):
            assert (found == wanted).mean() > 0.98, name
        else:
            assert np.abs(found.astype(float) - wanted.astype(float)).mean() < 0.01, name


def test_the_record_holds_nothing_else(recorded: dict[str, np.ndarray]) -> None:
    names = {f"{case.name}: {photo}" for case in record.CASES for photo in record.PHOTOGRAPHS}
    assert {name.removesuffix(" labels").removesuffix(" scores") for name in recorded} == names


@pytest.mark.parametrize("recipe", list(record.toys()))
def test_training_loses_what_the_record_says(recipe: str) -> None:
    wanted = json.loads(record.LOSSES.read_text(encoding="utf-8"))[recipe]
    found = record.losses(recipe)
    assert [sorted(line) for line in found] == [sorted(line) for line in wanted]
    tolerance = 0.0 if same_machine() else 0.02
    for line, right in zip(found, wanted, strict=True):
        assert line == pytest.approx(right, rel=tolerance, abs=tolerance)
