"""Saves a predictor's model in a folder, with weights as loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lexiseg import catalog
from lexiseg.errors import OutputError
from lexiseg.segmenter import Inference, Segmenter, Variant
from lexiseg.weights import AnyWeights

__all__ = ["save", "unrounded"]


def save(
    segmenter: Segmenter[Any, Any],
    inference: Inference,
    folder: str | os.PathLike[str],
    *,
    source: AnyWeights | None,
    variant: str | None = None,
) -> None:
    """See `Predictor.save`.

    source: the weights that it was loaded from. variant: the name of the one that it is, which is kept.
    """
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise OutputError(f"{place} exists already; choose another folder")
    method = type(segmenter).__module__.rpartition(".")[2]
    facts = {} if variant is None else {"variant": variant}
    catalog.save(segmenter, place, method=method, inference=inference, source=source, **facts)


def unrounded(
    segmenter: Segmenter[Any, Any], method: str, variant: Variant, narrowest: torch.dtype
) -> Segmenter[Any, Any]:
    """The segmenter as it was loaded, where all that has happened since is that weights were rounded; else itself."""
    if narrowest == torch.float32 or not isinstance(segmenter, nn.Module):
        return segmenter
    fresh: Any = catalog.get("methods", method).load(variant)
    now, then = segmenter.state_dict(), fresh.state_dict()
    same = now.keys() == then.keys() and all(_rounded(then[name], now[name], narrowest) for name in now)
    return fresh if same else segmenter


def _rounded(exact: torch.Tensor, other: torch.Tensor, narrowest: torch.dtype) -> bool:
    if not exact.is_floating_point() or not exact.ndim:
        return torch.equal(exact, other.cpu().to(exact.dtype))
    return torch.equal(exact.to(narrowest), other.cpu().to(narrowest))
