"""Leaves out the classes that no mask shows.

So many classes cost little where a few are in the picture.

GroupViT and SegCLIP give scores to five classes of a window, whatever the vocabulary: of 848 sums at a pixel all but
these are 0, and none of them can win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lexiseg.inference.upsample import Result
from lexiseg.segmenter import MaskScores

__all__ = ["only", "shown"]

WORTH = 2  # times as many channels as are shown: with fewer nothing is left out


def shown(results: Sequence[Result]) -> Tensor | None:
    """The channels that could win where sound results of one vocabulary are added up, ascending; None for all.

    The first is always among them, since it wins where every sum is 0.
    """
    scores = [result.scores[0] for result in results if isinstance(result, MaskScores)]
    if len(scores) < len(results) or any(bool((each < 0).any()) for each in scores):
        return None
    used = torch.stack([(each > 0).any(dim=0) for each in scores]).any(dim=0)
    used[0] = True
    return used.nonzero()[:, 0] if WORTH * int(used.sum()) <= len(used) else None


def only(result: Result, channels: Tensor | None) -> Result:
    """The result of these channels alone."""
    if channels is None or not isinstance(result, MaskScores):
        return result
    return replace(result, scores=result.scores[..., channels])
