"""Stretches position embeddings to any grid.

They alone tie a CLIP tower to the size it was trained at.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["resize_positions"]


def resize_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """The table of a square grid [1 + G², W], class row first, for `grid` [1 + h·w, W].

    Bicubic, align_corners False, no antialiasing, in float32 (maskclip.md §2.3). The released MaskCLIP decides
    by the number of tokens and so leaves a 7x28 grid of a 14x14 table as it is; here either side that differs counts.
    """
    side = math.isqrt(len(table) - 1)
    if grid == (side, side):
        return table
    cells = table[1:].float().reshape(side, side, -1).permute(2, 0, 1)[None]  # [1, W, G, G]
    cells = functional.interpolate(cells, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], cells[0].flatten(1).mT.to(table.dtype)])
