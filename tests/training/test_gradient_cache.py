"""Gradient caching equals the plain batch."""

from __future__ import annotations

import pytest
import torch
import toy
from accelerate import Accelerator

from lexiseg.training import batches, gradient_cache
from lexiseg.training.forward import Forward


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def _batch(size=12):
    return next(toy.ToyData().open(batch_size=size, seed=0, max_bad_fraction=0).stream(None, rank=0, world=1))[0]


def _gradients(objective):
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


def _cached(objective, accelerator, piece):
    forward = Forward(objective)
    objective.zero_grad()
    losses = gradient_cache.backward(forward, forward, batches.split(_batch(), piece), accelerator)
    return losses, _gradients(objective)


@pytest.mark.parametrize("piece", [1, 5, 12, 99])
def test_cached_gradients_equal_those_of_the_plain_batch_to_rounding(accelerator, piece):
    torch.manual_seed(0)
    objective = toy.Contrastive()
    plain = objective(_batch())["contrast"]
    plain.backward()
    expected = {name: gradient.clone() for name, gradient in _gradients(objective).items()}
    losses, cached = _cached(objective, accelerator, piece)
    torch.testing.assert_close(losses["contrast"], plain.detach())
    torch.testing.assert_close(cached, expected, rtol=1e-5, atol=1e-7)
    assert cached["scale"].abs() > 1e-3  # the loss's own parameter is not forgotten


def test_both_passes_drop_out_the_same_units(accelerator):
    objective = toy.Contrastive(dropout=0.5)
    pieces = batches.split(_batch(), 4)
    torch.manual_seed(7)
    rows = [objective.embed(piece) for piece in pieces]  # the reference keeps every graph
    objective.loss(*(torch.cat(parts) for parts in zip(*rows, strict=True)))["contrast"].backward()
    expected = {name: gradient.clone() for name, gradient in _gradients(objective).items()}
    after = torch.rand(1)
    torch.manual_seed(7)
    _, cached = _cached(objective, accelerator, 4)
    torch.testing.assert_close(cached, expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(torch.rand(1), after)  # and the generator goes on as after one pass


def test_running_statistics_move_once(accelerator):
    class Normed(toy.Contrastive):
        def __init__(self):
            super().__init__()
            self.segmenter = toy.Classifier(norm=True)

    objective = Normed()
    _cached(objective, accelerator, 4)
    assert objective.segmenter.norm.num_batches_tracked == 3


def test_frozen_parameters_get_no_gradient(accelerator):
    objective = toy.Contrastive()
    objective.other.requires_grad_(False)
    _, cached = _cached(objective, accelerator, 4)
    assert cached["other.weight"] is None
    assert cached["segmenter.first.weight"].abs().sum() > 0


def test_activations_of_one_piece_at_a_time_are_held(accelerator):
    held, peak = [0], [0]

    def hidden(tensor):
        return tensor.shape[0] if tensor.ndim == 2 and tensor.shape[1] == 16 and tensor.shape[0] != 3 else 0  # [b, 16]

    def keep(tensor):
        held[0] += hidden(tensor)
        peak[0] = max(peak[0], held[0])
        return tensor.clone()

    def use(tensor):
        held[0] -= hidden(tensor)
        return tensor

    objective = toy.Contrastive()
    with torch.autograd.graph.saved_tensors_hooks(keep, use):
        objective(_batch())["contrast"].backward()
        plain, held[0], peak[0] = peak[0], 0, 0
        _cached(objective, accelerator, 4)
    assert plain > 0
    assert peak[0] == plain / 3
