"""Averages the weights of a run (EMA).

The averaged weights are often better than the last ones, and then the result of a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["Ema", "measure_batchnorm"]


class Ema:
    """An exponential moving average in fp32 of what `weights` names: trained parameters and float buffers.

    The decay rises to its value as (1 + step) / (10 + step), so that short runs do not end near their first weights.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.weights = dict(weights)  # the live tensors
        self.averages = {name: tensor.detach().float().clone() for name, tensor in self.weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.averages.items():
            average.lerp_(self.weights[name].detach().float(), 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and its own again after it."""
        own = {name: tensor.detach().clone() for name, tensor in self.weights.items()}
        self._copy(self.averages)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self.weights.items():
            tensor.copy_(values[name])


@torch.no_grad()
def measure_batchnorm(objective: nn.Module, batches: Iterable[object]) -> None:
    """Measures the running statistics of batch normalisation anew, as plain means over `batches`.

    Averaged weights need it: the average of statistics is not the statistics of the average.
    """
    objective.train()
    layers = [module for module in objective.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's sign for a plain mean
    for batch in batches:
        objective(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
