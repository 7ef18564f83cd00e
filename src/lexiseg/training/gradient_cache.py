"""Trains contrastive batches larger than the memory, in two passes.

The passes give the gradient of the whole batch (Gao et al., GradCache).

    1  embed every piece without a graph                          embeddings of the whole batch
    2  the loss of all of them, and its gradient in each embedding
    3  embed every piece again, on the same random numbers, and propagate <gradient, embedding> backwards

The result equals the plain batch to rounding, for one more forward pass. It is what SimSeg's training needs for its
batch of 4,096 (docs/papers/simseg.md §2.4). Batch normalisation sees pieces, so with it the two are not equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lexiseg.training.batches import size
from lexiseg.training.contracts import Batch
from lexiseg.training.forward import Forward
from lexiseg.training.random_state import RandomState

__all__ = ["backward"]


def backward(model: Any, forward: Forward, pieces: Sequence[Batch], accelerator: Any) -> dict[str, Tensor]:
    """Adds the gradient of all pieces as one batch to the parameters, and returns the named losses.

    model: `forward`, as `accelerator` wrapped it.
    """
    buffers = {name: buffer.clone() for name, buffer in forward.named_buffers()}
    embeddings, states = _embed(forward, pieces, accelerator)
    _restore(forward, buffers)  # or running statistics would move twice
    losses, gradients, own_gradients = _loss(forward, embeddings)
    after = RandomState.capture()
    start = 0
    for index, (piece, state) in enumerate(zip(pieces, states, strict=True)):
        last = index == len(pieces) - 1
        state.restore()
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            end = start + size(piece)
            parts = [gradient[start:end] for gradient in gradients]
            accelerator.backward(model(piece, parts, own_gradients if last else None)["cached"])
        start = end
    after.restore()
    return losses


@torch.no_grad()
def _embed(forward: Forward, pieces: Sequence[Batch], accelerator: Any) -> tuple[list[Tensor], list[RandomState]]:
    """The embeddings of the whole batch, and the random state before each piece."""
    rows, states = [], []
    for piece in pieces:
        states.append(RandomState.capture())
        with accelerator.autocast():
            rows.append(forward.embed(piece))
    return [torch.cat(parts) for parts in zip(*rows, strict=True)], states


def _loss(forward: Forward, embeddings: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
    """Losses, their gradient in each floating embedding, and that in each parameter of the loss itself (the scale)."""
    leaves = [rows.requires_grad_() for rows in embeddings if rows.is_floating_point()]
    names, parameters = zip(*((n, p) for n, p in forward.objective.named_parameters() if p.requires_grad), strict=True)
    losses = forward.losses(embeddings)
    found = torch.autograd.grad(torch.stack(list(losses.values())).sum(), [*leaves, *parameters], allow_unused=True)
    in_rows, in_parameters = found[: len(leaves)], found[len(leaves) :]
    gradients = [
        torch.zeros_like(leaf) if found is None else found for leaf, found in zip(leaves, in_rows, strict=True)
    ]
    own = {name: gradient for name, gradient in zip(names, in_parameters, strict=True) if gradient is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients, own


@torch.no_grad()
def _restore(forward: Forward, buffers: dict[str, Tensor]) -> None:
    for name, buffer in forward.named_buffers():
        buffer.copy_(buffers[name])
