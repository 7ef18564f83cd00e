"""Cuts batches of any content, moves them, and names their samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import DataError
from lexiseg.training.contracts import Batch

__all__ = ["keys", "move", "size", "split"]


def size(batch: Batch) -> int:
    """B: the length that all values of the batch share; raises `DataError` where they do not."""
    lengths = {name: len(value) for name, value in batch.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(f"the values of a batch must have one length, and have {lengths}; fix the data's collation")
    return next(iter(lengths.values()))


def split(batch: Batch, most: int) -> list[dict[str, Any]]:
    """Pieces of at most `most` samples, in order."""
    return [
        {name: value[start : start + most] for name, value in batch.items()} for start in range(0, size(batch), most)
    ]


def move(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Tensors on `device`; lists are left alone."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def keys(batch: Batch, *, most: int = 16) -> str:
    """The samples' names for a log line."""
    names: Sequence[Any] = batch.get("keys", ())
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "") or "samples without keys"
