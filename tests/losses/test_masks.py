"""Dice and focal losses against closed forms, loops and transformers' own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.maskformer.modeling_maskformer import dice_loss, sigmoid_focal_loss

from lexiseg.losses.masks import dice, focal


def drawn(masks: int = 4, pixels: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(masks, pixels, generator=random)
    targets, valid = (torch.rand(masks, pixels, generator=random) > 0.4 for _ in range(2))
    return logits, targets.float(), valid.float()


def test_they_are_those_of_transformers_where_every_pixel_is_valid() -> None:
    logits, targets, _ = drawn()
    every = torch.ones_like(targets)
    assert torch.allclose(dice(logits, targets, every).sum() / 3, dice_loss(logits, targets, 3))
    assert torch.allclose(focal(logits, targets, every).sum() / 3, sigmoid_focal_loss(logits, targets, 3))


def test_dice_in_closed_form() -> None:
    """Two pixels of the mask found with certainty, one missed, one too many: 1 - (2 * 2 + 1) / (3 + 3 + 1)."""
    logits = torch.tensor([[50.0, 50.0, -50.0, 50.0]])
    targets = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert float(dice(logits, targets, torch.ones(1, 4))) == pytest.approx(1 - 5 / 7)


def test_focal_in_closed_form() -> None:
    """A pixel at one half costs a quarter of its entropy, times alpha inside and the rest outside."""
    flat = torch.zeros(1, 2)
    each = math.log(2) / 4
    found = focal(flat, torch.tensor([[1.0, 0.0]]), torch.ones(1, 2), alpha=0.2)
    assert float(found) == pytest.approx((0.2 + 0.8) * each / 2)


def test_focal_as_a_loop_over_pixels() -> None:
    logits, targets, valid = drawn()
    for row, wanted, counts, found in zip(logits, targets, valid, focal(logits, targets, valid), strict=True):
        total = 0.0
        for x, t, v in zip(row.tolist(), wanted.tolist(), counts.tolist(), strict=True):
            right = 1 / (1 + math.exp(-x if t else x))
            total += v * (0.25 if t else 0.75) * (1 - right) ** 2 * -math.log(right)
        assert float(found) == pytest.approx(total / counts.sum().item(), rel=1e-5)


@pytest.mark.parametrize("loss", [dice, focal])
def test_pixels_that_are_not_valid_count_for_nothing(loss) -> None:  # type: ignore[no-untyped-def]
    logits, targets, valid = drawn()
    other = torch.where(valid.bool(), logits, 9 * torch.randn_like(logits))
    flipped = torch.where(valid.bool(), targets, 1 - targets)
    assert torch.allclose(loss(logits, targets, valid), loss(other, flipped, valid))
    rows = zip(logits, targets, valid.bool(), strict=True)
    kept = [loss(x[v][None], t[v][None], torch.ones(1, int(v.sum()))) for x, t, v in rows]
    assert torch.allclose(loss(logits, targets, valid), torch.cat(kept))


def test_a_mask_without_valid_pixels_loses_nothing_and_has_a_gradient() -> None:
    logits = torch.randn(1, 5, requires_grad=True)
    nothing = torch.zeros(1, 5)
    loss = (focal(logits, nothing, nothing) + dice(logits, nothing, nothing)).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert np.array_equal(gradient.numpy(), np.zeros((1, 5)))
    assert float(dice(logits.detach(), nothing, nothing)) == 0
