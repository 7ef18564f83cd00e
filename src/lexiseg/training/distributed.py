"""Runs many processes as if they were one.

It holds the accelerator, a gather with a gradient, and agreement on what happened.

Each process works on its own rows of the global batch. `gather` gives every process the embeddings of all rows, so
that each computes the loss of the global batch; its backward pass adds up what all processes want of a row. DDP then
averages the parameters' gradients over the processes, and the sum over N processes of N equal losses, divided by N, is
the gradient of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from lexiseg.errors import MissingDependency, SettingError
from lexiseg.training.recipe import Recipe

__all__ = ["check_sharding", "full", "gather", "like", "processes", "total"]


@contextlib.contextmanager
def processes(recipe: Recipe) -> Iterator[Any]:
    """The `accelerate.Accelerator` of a recipe: one process, or those that torchrun or `accelerate launch` started.

    The process group lives as long as the outermost block. Raises `MissingDependency` without accelerate and
    `SettingError` for fp16 without a GPU.
    """
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
        from accelerate.utils import GradientAccumulationPlugin
    except ImportError as error:
        raise MissingDependency("accelerate", "train", "training") from error
    on_cpu = not torch.accelerator.is_available()
    if recipe.precision == "fp16" and on_cpu:
        raise SettingError("precision fp16 needs a GPU, and there is none; use bf16 or fp32")
    outermost = not torch.distributed.is_initialized()
    AcceleratorState._reset_state()  # it refuses to change the precision from stage to stage otherwise
    accelerator = Accelerator(
        mixed_precision=recipe.precision if recipe.precision in ("bf16", "fp16") else "no",
        cpu=on_cpu,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=1
        ),  # the recipe's business, not the launcher's
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=recipe.unused_parameters)],
    )
    try:
        yield accelerator
    finally:
        if outermost and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
            AcceleratorState._reset_state(reset_partial_state=True)


def check_sharding(recipe: Recipe, accelerator: Any) -> None:
    """Raises `SettingError` for what does not go with FSDP, where accelerate's configuration asks for that."""
    if accelerator.distributed_type != "FSDP":
        return
    if accelerator.state.fsdp_plugin.fsdp_version != 2:
        raise SettingError("FSDP of version 1 does not keep the parameters' names; set fsdp_version: 2")
    for setting, used in (("cache", recipe.cache), ("precision bf16_weights", recipe.precision == "bf16_weights")):
        if used:
            raise SettingError(f"{setting} needs whole weights, and FSDP cuts them into shards; use DDP, or drop one")


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(summed)
        start = torch.distributed.get_rank() * ctx.rows
        return summed[start : start + ctx.rows]


def gather(rows: Tensor) -> Tensor:
    """The rows [b, ...] of all processes in their order [B, ...], with a gradient; `rows` itself in one process.

    All processes must have the same number of rows.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def full(tensor: Tensor) -> Tensor:
    """A copy on the CPU; the shards of FSDP are put together, for which every process must call."""
    tensor = tensor.detach()
    whole: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.to("cpu", copy=True).contiguous()


def like(whole: Tensor, tensor: Tensor) -> Tensor:
    """`whole` where `tensor` is: on its device, in shards if it is."""
    if isinstance(tensor, DTensor):
        return distribute_tensor(whole.to(tensor.device), tensor.device_mesh, tensor.placements)
    return whole.to(tensor.device)
