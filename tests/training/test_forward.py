"""bf16 weights with fp32 masters, and what an objective is taken to be."""

from __future__ import annotations

import copy

import torch
import toy
from torch.nn import functional

from lexiseg.training.forward import Forward, is_contrastive


def _batch():
    return next(toy.ToyData().open(batch_size=8, seed=0, max_bad_fraction=0).stream(None, rank=0, world=1))[0]


def test_bf16_weights_give_what_a_bf16_model_gives():
    torch.manual_seed(0)
    objective = toy.Plain(dropout=0.0, norm=False)
    ours = Forward(objective, bf16_weights=True)(_batch())["classes"]
    low = copy.deepcopy(objective.segmenter).to(torch.bfloat16)
    logits = low(_batch()["points"].to(torch.bfloat16))
    assert torch.equal(ours, functional.cross_entropy(logits.float(), _batch()["labels"]))


def test_masters_and_their_gradients_stay_fp32_and_the_objective_keeps_its_own_weights():
    objective = toy.Plain(dropout=0.0)
    before = dict(objective.named_parameters())
    sum(Forward(objective, bf16_weights=True)(_batch()).values()).backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in objective.parameters())
    assert all(before[name] is parameter for name, parameter in objective.named_parameters())


def test_modules_with_two_names_and_weights_in_two_modules_are_copied_and_given_back():
    class Shared(toy.Plain):
        def __init__(self):
            super().__init__(dropout=0.0, norm=False)
            self.head = self.segmenter.second  # a second name
            self.tied = torch.nn.Linear(16, 3, bias=False)
            self.tied.weight = self.head.weight  # a second place

        def forward(self, batch):
            hidden = self.segmenter.first(batch["points"])
            return {"loss": (self.head(hidden) + self.tied(hidden)).float().square().mean()}

    torch.manual_seed(0)
    objective = Shared()
    reference = copy.deepcopy(objective).to(torch.bfloat16)
    ours = Forward(objective, bf16_weights=True)(_batch())["loss"]
    ours.backward()
    theirs = reference({"points": _batch()["points"].to(torch.bfloat16)})["loss"]
    theirs.backward()
    assert torch.equal(ours, theirs)
    assert all(parameter.is_leaf and parameter.dtype == torch.float32 for parameter in objective.parameters())
    torch.testing.assert_close(objective.head.weight.grad, reference.head.weight.grad.float(), rtol=0.02, atol=1e-3)


def test_batch_normalisation_keeps_fp32_weights_and_statistics():
    seen = {}
    objective = toy.Plain(dropout=0.0)
    objective.segmenter.norm.register_forward_hook(
        lambda layer, inputs, _: seen.update(input=inputs[0].dtype, weight=layer.weight.dtype)
    )
    Forward(objective, bf16_weights=True)(_batch())
    assert seen == {"input": torch.bfloat16, "weight": torch.float32}
    assert objective.segmenter.norm.running_mean.dtype == torch.float32
    assert objective.segmenter.norm.running_mean.abs().sum() > 0


def test_contrastive_losses_are_computed_in_fp32_whatever_the_precision():
    seen = []

    class Watched(toy.Contrastive):
        def loss(self, left, right, labels):
            seen.extend([left.dtype, right.dtype, (left @ right.T).dtype, labels.dtype])
            return super().loss(left, right, labels)

    with torch.autocast("cpu", torch.bfloat16):
        Forward(Watched())(_batch())
    assert seen == [torch.float32, torch.float32, torch.float32, torch.int64]


def test_an_objective_is_contrastive_if_it_has_both_methods():
    assert is_contrastive(toy.Contrastive())
    assert not is_contrastive(toy.Plain())
