"""Brings given masks to the size that the network sees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError
from lexiseg.inference.upsample import Axis, Size, axes
from lexiseg.inference.windows import Box
from lexiseg.proposals._proposals import SURE, Proposals

__all__ = ["GivenMasks", "Masks", "cut", "given"]

Masks = npt.NDArray[Any] | Tensor | Proposals

AT_ONCE = 1 << 26  # numbers of masks that are resized together
MOST = 1 << 30  # numbers that all masks of a photograph have where the network sees them, 2 GB
WANTED = "give a label map of whole numbers [H, W], booleans or numbers from 0 to 1 [N, H, W], or Proposals"

Weights = Callable[[slice], Tensor]  # some of the masks, 0-1 [n, h, w] at the size that the network sees


@dataclass(frozen=True, eq=False)
class GivenMasks:
    """The masks of one photograph.

    proposals: [1, N, h, w] at the size that the network sees; at least one, which is not valid where there is none.
    inside: the pixels of the photograph that are in any mask [H, W].
    digest: a hash of the masks as they were given.
    """

    proposals: Proposals
    inside: npt.NDArray[np.bool_]
    digest: str


def given(masks: Masks, name: str, size: Size, resized: Size) -> GivenMasks:
    """Masks as the user gives them, of the photograph `name`.

    masks: a label map [H, W] of whole numbers, a mask for each number; a negative number is in no mask, nor is the
        largest of uint8 (255) and uint16. Or masks [N, H, W], which may overlap, of booleans or numbers from 0 to 1.
        Or the `Proposals` of the photograph alone, on any grid.
    size: (height, width) of the photograph; resized: of what the network sees.

    A mask that has no pixel does not count. Raises `SettingError` for anything else, for another size, for numbers
    beyond 0 to 1, and for more masks than memory should hold.
    """
    if isinstance(masks, Proposals):
        return _of_proposals(masks, name, size, resized)
    array = _array(masks, name)
    if array.shape[-2:] != size:
        raise SettingError(
            f"the masks of {name} are {array.shape[-2]} x {array.shape[-1]} and the photograph is {size[0]} x "
            f"{size[1]} (height x width); give masks of its size"
        )
    if array.ndim == 2 and array.dtype != bool:
        inside = _inside(array)
        numbers = np.unique(array[inside])

        def parts(chosen: slice) -> npt.NDArray[Any]:
            return np.asarray(array == numbers[chosen, None, None])

        return GivenMasks(_weighed(_resized(parts, resized), len(numbers), resized, name), inside, _digest(array))
    array = array if array.ndim == 3 else array[None]
    _check_weights(array, name)
    inside = np.zeros(size, bool)
    for one in array:
        inside |= one > 0
    weights = _resized(lambda chosen: array[chosen], resized)
    return GivenMasks(_weighed(weights, len(array), resized, name), inside, _digest(array))


def cut(proposals: Proposals, box: Box) -> Proposals:
    """The masks within a window; those that are elsewhere are not valid there."""
    masks = proposals.masks[(..., *box.slices)]
    return Proposals(masks, proposals.valid & (masks > -SURE).flatten(2).any(dim=2))


def _array(masks: object, name: str) -> npt.NDArray[Any]:
    if isinstance(masks, Tensor):
        masks = (masks.float() if masks.is_floating_point() else masks).cpu().numpy()
    try:
        array = np.asarray(masks)
    except ValueError:  # masks of several sizes
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3) or (array.ndim == 2 and array.dtype.kind == "f"):
        what = f"{array.dtype} {list(array.shape)}" if array.dtype != object else f"a {type(masks).__name__}"
        raise SettingError(f"the masks of {name} are {what}; {WANTED}")
    return array


def _inside(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a label map has a number that is a mask."""
    if labels.dtype in (np.uint8, np.uint16):
        return np.asarray(labels != np.iinfo(labels.dtype).max)
    return np.asarray(labels >= 0)


def _check_weights(array: npt.NDArray[Any], name: str) -> None:
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # NaN too
        raise SettingError(f"the masks of {name} have numbers from {array.min():g} to {array.max():g}; {WANTED}")


def _of_proposals(proposals: Proposals, name: str, size: Size, resized: Size) -> GivenMasks:
    if len(proposals.masks) != 1:
        raise SettingError(f"the Proposals given for {name} are of {len(proposals.masks)} pictures; give those of one")
    logits = proposals.masks[0].cpu()[proposals.valid[0].cpu()]
    grid = (logits.shape[1], logits.shape[2])
    if proposals.covers is None and (grid[0] > resized[0] or grid[1] > resized[1]):
        weights = _resized(lambda chosen: logits[chosen].float().sigmoid().numpy(), resized)
    else:
        seen = axes(grid, resized, covers=proposals.covers, seen=size)

        def weights(chosen: slice) -> Tensor:
            return _interpolated(logits[chosen], seen).sigmoid()

    inside = np.zeros(size, bool)
    if len(logits):
        whole = axes(grid, size, covers=proposals.covers, seen=size)
        inside = (_interpolated(logits.amax(dim=0, keepdim=True), whole)[0] > -SURE).numpy()
    return GivenMasks(_weighed(weights, len(logits), resized, name), inside, _digest(logits.float().numpy()))


def _interpolated(logits: Tensor, places: tuple[Axis, Axis]) -> Tensor:
    rows, columns = places
    return columns.along_rows(rows.upsample(logits))


def _resized(masks: Callable[[slice], npt.NDArray[Any]], resized: Size) -> Weights:
    def weights(chosen: slice) -> Tensor:
        part = torch.from_numpy(np.ascontiguousarray(masks(chosen), np.float32))
        if part.shape[-2:] == resized:
            return part
        return functional.interpolate(part[None], resized, mode="bilinear", antialias=True, align_corners=False)[0]

    return weights


def _weighed(weights: Weights, count: int, resized: Size, name: str) -> Proposals:
    """The masks as logits, a few at a time."""
    if count * resized[0] * resized[1] > MOST:
        raise SettingError(
            f"{name} has {count:,} masks, and the network sees it at {resized[0]} x {resized[1]}; that does not fit "
            "into memory: give fewer masks"
        )
    if not count:
        return Proposals.of_weights(torch.zeros(1, 1, *resized))
    found = [Proposals.of_weights(weights(chosen)[None]) for chosen in _slices(count, resized)]
    return Proposals(torch.cat([one.masks for one in found], dim=1), torch.cat([one.valid for one in found], dim=1))


def _slices(count: int, size: Size) -> Iterator[slice]:
    step = max(1, AT_ONCE // (size[0] * size[1]))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _digest(array: npt.NDArray[Any]) -> str:
    found = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    found.update(array.tobytes())
    return found.hexdigest()[:16]
