"""Passes a batch through an objective, wrapped by DDP or FSDP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from lexiseg.training.contracts import Batch
from lexiseg.training.distributed import gather

__all__ = ["Forward", "is_contrastive"]


def is_contrastive(objective: nn.Module) -> bool:
    return callable(getattr(objective, "embed", None)) and callable(getattr(objective, "loss", None))


class Forward(nn.Module):
    """Named losses of a batch; embeddings are gathered from all processes on the way.

    bf16_weights: the objective runs on bf16 copies of its fp32 weights, which stay the masters that the optimiser and
    the checkpoints see. Unlike under autocast (precision "bf16") every activation is bf16 then. The weights and
    statistics of batch normalisation stay fp32.

    Losses are computed in fp32 where the objective has `embed` and `loss`; otherwise in what it makes of its input.
    """

    def __init__(self, objective: nn.Module, *, bf16_weights: bool = False) -> None:
        super().__init__()
        self.call = _Call(objective)
        self.bf16_weights = bf16_weights

    @property
    def objective(self) -> Any:
        return self.call.objective

    def forward(
        self,
        batch: Batch,
        gradients: Sequence[Tensor] | None = None,
        own_gradients: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Losses by name, or the stand-in for them that gradient caching propagates backwards.

        gradients: what is known already about the floating embeddings of this batch, [B, ...] each. The result is
        then {"cached": their inner product}, whose gradient in the weights is that of the losses.
        own_gradients: the same for parameters by name that only the loss uses.
        """
        if gradients is not None:
            cached = _inner([rows for rows in self.embed(batch) if rows.is_floating_point()], gradients)
            parameters = dict(self.objective.named_parameters())
            own = own_gradients or {}
            return {"cached": cached + _inner([parameters[name] for name in own], list(own.values()))}
        if is_contrastive(self.objective):
            return self.losses(self.embed(batch))
        losses: dict[str, Tensor] = self._run("__call__", batch)
        return {name: loss.float() for name, loss in losses.items()}

    def embed(self, batch: Batch) -> tuple[Tensor, ...]:
        """The embeddings of this process's rows, in fp32."""
        rows: tuple[Tensor, ...] = self._run("embed", batch)
        return tuple(each.float() if each.is_floating_point() else each for each in rows)

    def losses(self, embeddings: Sequence[Tensor]) -> dict[str, Tensor]:
        """The losses of the global batch, of which `embeddings` are this process's rows."""
        with torch.autocast(embeddings[0].device.type, enabled=False):
            losses: dict[str, Tensor] = self.objective.loss(*(gather(rows) for rows in embeddings))
        return losses

    def _run(self, method: str, batch: Batch) -> Any:
        if not self.bf16_weights:
            return self.call(method, batch)
        inputs = {name: _to_bf16(value) for name, value in batch.items()}
        return functional_call(self.call, self._bf16_copies(), (method, inputs), tie_weights=False)

    def _bf16_copies(self) -> dict[str, Tensor]:
        """A copy of each weight under one name for each place: a module may have two names, a weight two modules."""
        copies: dict[nn.Parameter, Tensor] = {}
        named = {}
        for prefix, module in self.call.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                if weight.is_floating_point() and not isinstance(module, _BatchNorm):
                    if weight not in copies:
                        copies[weight] = weight.to(torch.bfloat16)
                    named[f"{prefix}.{name}"] = copies[weight]
        return named


class _Call(nn.Module):
    """Any method of an objective as a `forward`, since that is what `functional_call` runs."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, method: str, batch: Batch) -> Any:
        return self.objective(batch) if method == "__call__" else getattr(self.objective, method)(batch)


def _to_bf16(value: Any) -> Any:
    return value.to(torch.bfloat16) if isinstance(value, Tensor) and value.is_floating_point() else value


def _inner(values: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    products = [(value * gradient).sum() for value, gradient in zip(values, gradients, strict=True)]
    return torch.stack(products).sum() if products else torch.zeros(())
