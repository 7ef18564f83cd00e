"""Bytes become what a network was trained on: the documented formula, in its own precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lexiseg.errors import SettingError
from lexiseg.layers.pixels import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, check, dtype_of, normalise

OWN = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def pictures() -> Tensor:
    return torch.randint(0, 256, (2, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize(
    ("statistics", "mean", "std"),
    [("clip", CLIP_MEAN, CLIP_STD), ("imagenet", IMAGENET_MEAN, IMAGENET_STD), (OWN, *OWN)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3)])
def test_a_level_becomes_its_distance_from_the_mean_in_deviations(
    statistics: Any, mean: Any, std: Any, dtype: torch.dtype, tolerance: float
) -> None:
    expected = (pictures().numpy() / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    found = normalise(pictures(), statistics, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), expected, atol=tolerance)


def test_half_precision_is_rounded_once() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(normalise(pictures(), "clip", dtype), normalise(pictures(), "clip").to(dtype))


def test_floats_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="bytes"):
        normalise(pictures() / 255, "clip")


@pytest.mark.parametrize("wrong", [((0, 0, 0), (0, 0, 0)), ((0, 0, 0), (1, -1, 1)), ((0, 0, float("nan")), (1, 1, 1))])
def test_statistics_that_nothing_can_be_normalised_with_are_refused(wrong: Any) -> None:
    check(OWN)
    with pytest.raises(SettingError, match="above 0"):
        check(wrong)


def test_a_network_computes_in_the_dtype_of_its_weights_whatever_its_scalars_are() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(4.6))
            self.layer = nn.Linear(2, 2).to(torch.bfloat16)

    assert dtype_of(Scaled()) == torch.bfloat16
    assert dtype_of(nn.Identity()) == torch.float32


def test_inside_of_a_call_on_copies_it_is_the_dtype_of_the_copies() -> None:
    """Training with precision "bf16_weights" runs a module on bf16 copies of its weights."""

    class Telling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self) -> torch.dtype:
            return dtype_of(self)

    module = Telling()
    copies = {name: weight.to(torch.bfloat16) for name, weight in module.named_parameters()}
    assert torch.func.functional_call(module, copies, ()) == torch.bfloat16
    assert module() == torch.float32
