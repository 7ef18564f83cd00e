"""Makes an optimiser from rules on names, and its learning rate.

The learning rate is a function of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon

from lexiseg.errors import SettingError, nearest
from lexiseg.training.recipe import Group, Recipe, Schedule

__all__ = ["build", "factor", "freeze", "load_state", "set_rate", "state"]


def freeze(objective: nn.Module, rules: Iterable[Group]) -> None:
    """Takes the gradient away from parameters that a rule freezes, and gives it back where a rule says not frozen.

    Raises `SettingError` for a glob that matches nothing, and where nothing is left to train.
    """
    names = [name for name, _ in objective.named_parameters()]
    for rule in rules:
        for pattern in rule.names:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise SettingError(f"the group {pattern!r} matches no parameter; {nearest(pattern, names)}")
    for name, parameter in objective.named_parameters():
        frozen = _last(rules, name, "frozen")
        if frozen is not None:
            parameter.requires_grad_(not frozen)
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise SettingError("every parameter is frozen, so there is nothing to train; loosen the groups")


def build(objective: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, SGD or Muon over the parameters that need a gradient, in one group for each rate and weight decay.

    A group's "factor" is its rate at the top of the schedule over the recipe's.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            factor_ = _last(recipe.groups, name, "rate")
            decay = _last(recipe.groups, name, "weight_decay")
            key = (
                1.0 if factor_ is None else factor_,
                recipe.optimiser.weight_decay if decay is None else decay,
                recipe.optimiser.name == "muon" and parameter.ndim == 2 and "embedding" not in name,
            )
            groups.setdefault(key, []).append(parameter)
    settings = recipe.optimiser
    described = [
        {"params": parameters, "lr": settings.rate * rate, "weight_decay": decay, "factor": rate, "matrices": matrices}
        for (rate, decay, matrices), parameters in groups.items()
    ]
    if settings.name == "sgd":
        return SGD(described, lr=settings.rate, momentum=settings.momentum)
    # the fused kernel of AdamW is several times faster on a CPU; with fp16 the scaler's own path is the tried one
    adamw: dict[str, Any] = {"betas": settings.betas, "eps": settings.epsilon, "fused": recipe.precision != "fp16"}
    if settings.name == "muon":
        return MuonAndAdamW(described, adamw)
    return AdamW(described, lr=settings.rate, **adamw)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the groups of matrices, AdamW for embeddings, norms, biases and convolutions.

    A matrix's update is as large as AdamW's would be (Liu et al. 2025), so that both take the same learning rates.
    """

    def __init__(self, groups: list[dict[str, Any]], adamw: dict[str, Any]) -> None:
        super().__init__(groups, {})
        self._adamw = adamw
        self._share()

    def _share(self) -> None:
        """The parts work on this optimiser's own groups and moments, so that one state is saved and restored."""
        kinds: tuple[tuple[bool, Callable[..., torch.optim.Optimizer]], ...] = (
            (True, partial(Muon, adjust_lr_fn="match_rms_adamw")),
            (False, partial(AdamW, **self._adamw)),
        )
        self._parts: list[torch.optim.Optimizer] = []
        for matrices, kind in kinds:
            groups = [group for group in self.param_groups if group["matrices"] == matrices]
            if groups:
                part = kind([dict(group) for group in groups])
                for group, theirs in zip(groups, part.param_groups, strict=True):
                    group.update({key: value for key, value in theirs.items() if key not in group})
                part.param_groups, part.state = groups, self.state
                self._parts.append(part)

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rate of `step` (from 0) is multiplied by, out of `steps`."""
    warmup = schedule.warmup * steps
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(steps - warmup, 1)  # 0-1
    if schedule.name == "constant":
        return 1.0
    falling = 0.5 * (1 + math.cos(math.pi * done)) if schedule.name == "cosine" else (1 - done) ** schedule.power
    return schedule.floor + (1 - schedule.floor) * falling


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group `rate` times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def state(optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The moments and counters by "parameter/key"; rates and decays are the recipe's business."""
    return {
        f"{names[parameter]}/{key}": value
        for parameter, values in optimiser.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def load_state(optimiser: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `state` took; parameters without saved values start afresh."""
    saved: dict[str, dict[str, Tensor]] = {}
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        saved.setdefault(name, {})[key] = value.clone()  # safetensors may map the file itself
    ordered = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    packed = optimiser.state_dict()
    packed["state"] = {
        index: saved[names[parameter]] for index, parameter in enumerate(ordered) if names[parameter] in saved
    }
    optimiser.load_state_dict(packed)


def _last(rules: Iterable[Group], name: str, field: str) -> float | bool | None:
    """What the last rule that matches `name` says about `field`."""
    said = None
    for rule in rules:
        value = getattr(rule, field)
        if value is not None and any(fnmatchcase(name, pattern) for pattern in rule.names):
            said = value
    return said
