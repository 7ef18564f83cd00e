"""Averaged weights follow their formula, and batch normalisation is measured anew for them."""

from __future__ import annotations

import torch
import toy
from torch.optim.swa_utils import update_bn

from lexiseg.training.ema import Ema, measure_batchnorm


def test_the_average_is_the_recursion_with_its_rising_decay():
    weight = torch.tensor([1.0])
    ema, expected = Ema({"w": weight}, 0.9), 1.0
    for step in range(200):
        weight.fill_(step % 7)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step % 7)
    assert abs(ema.averages["w"].item() - expected) < 1e-5


def test_applied_lends_the_average_and_gives_the_weights_back_even_after_an_error():
    weight = torch.tensor([2.0])
    ema = Ema({"w": weight}, 0.5)
    weight.fill_(4.0)
    try:
        with ema.applied():
            assert weight.item() == 2.0
            raise RuntimeError
    except RuntimeError:
        assert weight.item() == 4.0


def test_bf16_weights_are_averaged_in_fp32():
    weight = torch.zeros(1, dtype=torch.bfloat16)
    ema = Ema({"w": weight}, 0.999)
    weight.fill_(1.0)
    for step in range(10_000, 10_010):
        ema.update(step)
    assert abs(ema.averages["w"].item() - (1 - 0.999**10)) < 1e-5


def test_measured_statistics_are_those_of_torch():
    torch.manual_seed(0)
    model = toy.Plain(dropout=0.0)
    batches = [batch for (batch, _), _ in zip(_stream(), range(5), strict=False)]
    measure_batchnorm(model, batches)
    ours = {name: buffer.clone() for name, buffer in model.named_buffers()}
    update_bn([batch["points"] for batch in batches], model.segmenter)
    assert all(torch.allclose(ours[name], buffer) for name, buffer in model.named_buffers())
    assert model.segmenter.norm.momentum == 0.1


def test_layers_that_an_objective_keeps_in_eval_mode_are_left_alone():
    class Frozen(toy.Plain):
        def train(self, mode=True):
            super().train(mode)
            self.segmenter.norm.eval()
            return self

    model = Frozen()
    measure_batchnorm(model, [next(_stream())[0]])
    assert torch.equal(model.segmenter.norm.running_mean, torch.zeros(16))


def _stream():
    return toy.ToyData().open(batch_size=8, seed=0, max_bad_fraction=0).stream(None, rank=0, world=1)
