"""Finds where the regions of a label map meet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["borders"]


def borders(labels: npt.NDArray[np.uint8 | np.uint16], width: int) -> npt.NDArray[np.bool_]:
    """Pixels that lie within `width` of another label, along a row or a column [H, W]."""
    found = np.zeros(labels.shape, bool)
    across = labels[:, width:] != labels[:, :-width]
    down = labels[width:] != labels[:-width]
    found[:, width:] |= across
    found[:, :-width] |= across
    found[width:] |= down
    found[:-width] |= down
    return found
