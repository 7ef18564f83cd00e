"""How groups are used, against scipy's entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from lexiseg.layers.usage import usage


def test_entropies_are_scipys_in_parts_of_the_largest() -> None:
    shares = torch.rand(5, 8, generator=torch.Generator().manual_seed(0))
    shares[0, :3] = 0
    shares /= shares.sum(dim=1, keepdim=True)
    found = usage(shares)
    assert found["usage_entropy"] == pytest.approx(entropy(shares.mean(0)) / np.log(8), abs=1e-6)
    assert found["image_entropy"] == pytest.approx(np.mean([entropy(row) for row in shares]) / np.log(8), abs=1e-6)
    assert found["groups_used"] == pytest.approx(37 / 40)


def test_groups_used_alike_are_1_and_collapsed_ones_0() -> None:
    assert usage(torch.full((2, 4), 0.25)) == pytest.approx({"usage_entropy": 1, "image_entropy": 1, "groups_used": 1})
    collapsed = usage(torch.tensor([[1.0, 0, 0, 0]] * 3))
    assert collapsed == {"usage_entropy": 0, "image_entropy": 0, "groups_used": 0.25}
    apart = usage(torch.eye(4))  # each image all one group, but another
    assert apart == pytest.approx({"usage_entropy": 1, "image_entropy": 0, "groups_used": 0.25})


def test_one_group_alone_is_no_division_by_zero() -> None:
    assert usage(torch.ones(3, 1)) == {"usage_entropy": 0, "image_entropy": 0, "groups_used": 1}
