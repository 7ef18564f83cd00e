"""Embeddings are kept for a while, and never more than so many bytes of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from inference.fakes import flag, predictor
from lexiseg.serving.cache import Embeddings, size_of


def test_the_one_that_was_not_asked_for_longest_goes_first() -> None:
    seen = predictor().embed(flag(), keep_image=False)
    kept = Embeddings(2 * size_of(seen), 60)
    first, second = kept.put("a", seen), kept.put("a", seen)
    assert kept.get(first) is not None
    third = kept.put("b", seen)
    assert kept.get(second) is None
    assert [kept.get(key).model for key in (first, third)] == ["a", "b"]  # type: ignore[union-attr]
    assert (len(kept), kept.bytes) == (2, 2 * size_of(seen))


def test_what_is_too_old_goes() -> None:
    now = 0.0
    kept = Embeddings(10**9, 60, clock=lambda: now)
    key = kept.put("a", predictor().embed(flag()))
    now = 59.0
    assert kept.get(key) is not None
    now = 60.0
    assert kept.get(key) is None
    assert (len(kept), kept.bytes) == (0, 0)


def test_one_that_is_larger_than_everything_is_not_kept() -> None:
    kept = Embeddings(1, 60)
    assert kept.get(kept.put("a", predictor().embed(flag()))) is None
    assert kept.bytes == 0


def test_removing_and_clearing_give_the_bytes_back() -> None:
    kept = Embeddings(10**9, 60)
    keys = [kept.put("a", predictor().embed(flag())) for _ in range(3)]
    assert len(set(keys)) == 3
    kept.remove(keys[0])
    kept.remove(keys[0])
    assert len(kept) == 2
    kept.clear()
    assert (len(kept), kept.bytes) == (0, 0)


@dataclasses.dataclass(frozen=True)
class Nested:
    a: torch.Tensor
    b: tuple[np.ndarray, str]


def test_bytes_are_those_of_all_tensors_and_arrays_inside() -> None:
    whole = torch.zeros(100, dtype=torch.float32)
    nested = Nested(torch.zeros(3, dtype=torch.float16), (np.zeros(5, np.uint8), "x"))
    assert size_of(nested) == 6 + 5
    assert size_of(whole[:1]) == 400  # a view keeps all of it
    assert size_of("text") == 0


def test_an_embedding_of_a_photograph_without_it_is_small() -> None:
    model = predictor(long_side=64)
    seen = model.embed(np.zeros((480, 640, 3), np.uint8), keep_image=False)
    assert size_of(seen) == pytest.approx(12 * 16 * 3 * 4)
