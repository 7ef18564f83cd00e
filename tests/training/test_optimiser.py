"""Rules on names become groups; the rate follows the papers' formulas."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import toy
from torch import nn

from lexiseg.errors import SettingError
from lexiseg.training import optimiser
from lexiseg.training.recipe import Group, Optimiser, Schedule


def test_later_rules_override_what_they_speak_of_and_nothing_else():
    groups = (
        Group(("segmenter.*",), rate=0.1),
        Group(("*.bias",), weight_decay=0.0),
        Group(("segmenter.second.*",), rate=2.0),
    )
    recipe = toy.recipe(optimiser=Optimiser(rate=0.5, weight_decay=0.3), groups=groups)
    model = toy.Contrastive()
    built = optimiser.build(model, recipe)
    found = {p: (group["lr"], group["weight_decay"]) for group in built.param_groups for p in group["params"]}
    named = {name: found[p] for name, p in model.named_parameters()}
    assert named["segmenter.first.weight"] == (0.05, 0.3)
    assert named["segmenter.first.bias"] == (0.05, 0.0)
    assert named["segmenter.second.weight"] == (1.0, 0.3)
    assert named["other.bias"] == (0.5, 0.0)
    assert named["scale"] == (0.5, 0.3)


def test_frozen_parameters_stay_out_and_can_be_thawed_by_a_later_rule():
    model = toy.Contrastive()
    optimiser.freeze(model, (Group(("*",), frozen=True), Group(("other.*",), frozen=False)))
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["other.weight", "other.bias"]
    built = optimiser.build(model, toy.recipe())
    assert sum(len(group["params"]) for group in built.param_groups) == 2


def test_a_rule_that_matches_nothing_is_refused_with_the_nearest_name():
    with pytest.raises(SettingError, match=r"did you mean 'segmenter\.first\.weight'"):
        optimiser.freeze(toy.Contrastive(), (Group(("segmenter.frist.weight",), frozen=True),))


def test_freezing_everything_is_refused():
    with pytest.raises(SettingError, match="nothing to train"):
        optimiser.freeze(toy.Contrastive(), (Group(("*",), frozen=True),))


def test_poly_is_maskclips_formula():
    # docs/papers/maskclip_plus.md §3.6: lr_t = (lr0 - 1e-4) (1 - t/T)^0.9 + 1e-4 with lr0 = 0.01
    schedule = Schedule("poly", floor=0.01, power=0.9)
    for step in (0, 1, 700, 1999):
        expected = (0.01 - 1e-4) * (1 - step / 2000) ** 0.9 + 1e-4
        assert 0.01 * optimiser.factor(schedule, step, 2000) == pytest.approx(expected, rel=1e-12)


def test_cosine_is_torchs():
    parameter = nn.Parameter(torch.zeros(1))
    reference = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=50, eta_min=0.1)
    for step in range(50):
        assert optimiser.factor(Schedule("cosine", floor=0.1), step, 50) == pytest.approx(
            scheduler.get_last_lr()[0], rel=1e-9
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()


def test_warmup_rises_from_nothing_and_the_rest_of_the_schedule_follows_it():
    # docs/papers/simseg.md §2.4: 2.5 % linear from 0, then half a cosine to 0.1
    schedule = Schedule("cosine", warmup=0.025, floor=0.1)
    factors = [optimiser.factor(schedule, step, 1000) for step in range(1000)]
    assert factors[0] == 0
    assert factors[5] == pytest.approx(5 / 25)
    assert factors[25] == 1
    assert factors[512] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (512 - 25) / 975)))
    assert max(factors) == 1
    assert factors[-1] == pytest.approx(0.1, abs=1e-4)


def test_constant_stays():
    assert {optimiser.factor(Schedule("constant"), step, 9) for step in range(9)} == {1.0}


def test_rates_keep_their_factor():
    model = toy.Contrastive()
    built = optimiser.build(model, toy.recipe(groups=(Group(("other.*",), rate=0.1),)))
    optimiser.set_rate(built, 0.5)
    assert sorted(group["lr"] for group in built.param_groups) == [0.05, 0.5]


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_saved_moments_continue_to_the_bit(name):
    def step(model, built):
        built.zero_grad()
        torch.manual_seed(model.steps)
        model.steps += 1
        sum(p.square().sum() * torch.rand(()) for p in model.parameters()).backward()
        built.step()

    recipe = toy.recipe(optimiser=Optimiser(name, rate=0.1), groups=(Group(("other.*",), rate=0.1),))
    torch.manual_seed(0)
    first = toy.Contrastive()
    first.steps = 0
    ours = optimiser.build(first, recipe)
    for _ in range(3):
        step(first, ours)
    second = toy.Contrastive()
    second.steps = 3
    second.load_state_dict(first.state_dict())
    other = optimiser.build(second, recipe)
    taken = optimiser.state(ours, {p: n for n, p in first.named_parameters()})
    optimiser.load_state(other, {p: n for n, p in second.named_parameters()}, taken)
    for _ in range(3):
        step(first, ours)
        step(second, other)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
