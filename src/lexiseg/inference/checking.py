"""Checks what a method's `classify` returns, and makes it finite float32.

Both happen once, where a result arrives; the decoder and all that it calls rely on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import LexisegError, MethodError
from lexiseg.inference.upsample import Result, Size
from lexiseg.segmenter import DenseLogits, MaskScores
from lexiseg.vocabulary import Vocabulary

__all__ = ["check", "check_covers", "sound"]

FLOOR = 1e4  # -inf becomes the smallest finite logit minus this
LARGEST = 1e4  # of a mask or a score; the sigmoid is 1 long before


def check(returned: object, method: str, vocabulary: Vocabulary) -> Result:
    """The result of one image, if it is what the contract of `classify` says.

    method: what messages call it.

    Raises `MethodError` for another type, for shapes that do not fit each other or the vocabulary, for whole numbers,
    and for `weights` that do not exist.
    """
    if not isinstance(returned, DenseLogits | MaskScores):
        raise MethodError(f"{method} returned a {type(returned).__name__}; return DenseLogits or MaskScores")
    if isinstance(returned, DenseLogits):
        _check_tensor(returned.logits, f"{method} returned logits", "[1, C, h, w]")
    else:
        _check_tensor(returned.masks, f"{method} returned masks", "[1, N, h, w]")
        _check_tensor(returned.scores, f"{method} returned scores", "[1, N, C]")
        _check_masks(returned, method)
    covers: Any = returned.covers
    if covers is not None and not _is_size(covers):
        raise MethodError(f"{method} returned covers={covers!r}; give (height, width) in pixels of the input, or None")
    _check_channels(returned, method, vocabulary)
    return returned


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(side, int) and side > 0 for side in value)


def _check_tensor(value: Any, given: str, letters: str) -> None:
    if not isinstance(value, Tensor):
        raise MethodError(f"{given} of type {type(value).__name__}; return a tensor {letters}")
    if not value.is_floating_point():
        raise MethodError(f"{given} of {value.dtype}; return floating-point numbers")
    sizes = list(value.shape)
    if len(sizes) != letters.count(",") + 1:
        raise MethodError(f"{given} of shape {sizes}; return {letters}")
    if sizes[0] != 1:
        raise MethodError(f"{given} of shape {sizes} for an embedding of one image; return {letters}")
    if len(sizes) == 4 and min(sizes[2:]) < 1:
        raise MethodError(f"{given} of shape {sizes}, whose grid is empty; return {letters} with h and w of 1 or more")


def _check_masks(result: MaskScores, method: str) -> None:
    if result.weights not in ("sigmoid", "linear"):
        raise MethodError(f"{method} returned weights={result.weights!r}; give 'sigmoid' or 'linear'")
    if result.masks.shape[1] != result.scores.shape[1]:
        raise MethodError(
            f"{method} returned {result.masks.shape[1]} masks and scores of {result.scores.shape[1]}; "
            "return a row of scores for every mask"
        )


def _check_channels(result: Result, method: str, vocabulary: Vocabulary) -> None:
    if vocabulary.background and not result.background:
        raise MethodError(
            f"{method} returned background=False for a vocabulary with background words; "
            "return them as the last channel, with background=True"
        )
    wanted = len(vocabulary) + result.background
    if result.channels != wanted:
        ground = "a background" if result.background else "no background"
        raise MethodError(
            f"{method} returned {result.channels} channels for a vocabulary of {len(vocabulary)} and {ground}; "
            f"return {wanted}, one for each class" + " and then the background" * result.background
        )


def check_covers(covers: tuple[float, float] | None, grid: Size, seen: Size, method: str) -> None:
    """Raises `MethodError` for a grid that leaves as much of the input out as a cell covers.

    seen: (height, width) of the input.
    """
    if covers is None:
        return
    for side, cells, whole in zip(covers, grid, seen, strict=True):
        if side * (cells + 1) <= whole * cells:
            raise MethodError(
                f"{method} returned covers that make the grid {covers[0]:g} x {covers[1]:g} pixels, and the input has "
                f"{seen[0]} x {seen[1]} (height x width); covers are the pixels that the whole grid spans"
            )


def sound(result: Result) -> Result:
    """The same in float32 and finite: -inf in logits never wins, infinite masks are everywhere or nowhere.

    Without any mask there is one, which is nowhere.

    Raises `LexisegError` for NaN, for logits of +inf, and for linear weights that are infinite; `MethodError` for
    linear weights below 0.
    """
    result = result.float()
    if isinstance(result, DenseLogits):
        logits = _sound_logits(result.logits)
        return result if logits is result.logits else replace(result, logits=logits)
    linear = result.weights == "linear"
    if not result.masks.shape[1]:
        masks = result.masks.new_full((1, 1, *result.grid), 0.0 if linear else -LARGEST)
        return replace(result, masks=masks, scores=result.scores.new_zeros(1, 1, result.channels))
    masks = _sound_weights(result.masks) if linear else _sound_numbers(result.masks)
    return replace(result, masks=masks, scores=_sound_numbers(result.scores))


def _sound_logits(logits: Tensor) -> Tensor:
    lowest, highest = torch.aminmax(logits)
    if torch.isfinite(lowest) and torch.isfinite(highest):
        return logits
    if not torch.isfinite(highest):
        wrong = logits.isnan() | logits.isposinf()
        raise _broken(logits, wrong if wrong.any() else logits.isinf(), "logits are NaN or infinite")
    return logits.clamp(min=float(logits[torch.isfinite(logits)].min()) - FLOOR)


def _sound_numbers(values: Tensor) -> Tensor:
    values = values.clamp(-LARGEST, LARGEST)
    if torch.isnan(values).any():
        raise _broken(values, torch.isnan(values), "numbers of the masks are NaN")
    return values


def _sound_weights(masks: Tensor) -> Tensor:
    lowest, highest = torch.aminmax(masks)
    if not (torch.isfinite(lowest) and torch.isfinite(highest)):
        raise _broken(masks, ~torch.isfinite(masks), "weights of the masks are NaN or infinite")
    if lowest < 0:
        raise MethodError(
            f"linear masks are weights of 0 or more, and the smallest is {float(lowest):.4g}; "
            "clamp them, or return logits with weights='sigmoid'"
        )
    return masks


def _broken(values: Tensor, wrong: Tensor, what: str) -> LexisegError:
    return LexisegError(
        f"{int(wrong.sum()):,} of {values.numel():,} {what}; the weights are damaged or the precision is too low for "
        "them: try dtype='fp32'"
    )
