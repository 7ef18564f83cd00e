"""Fills a map with the posterior of one class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lexiseg.inference.canvas import Canvas, bands
from lexiseg.inference.upsample import Axis

__all__ = ["Posterior"]


class Posterior(Canvas):
    """The posterior of channel `channel` at every pixel: its softmax, or its share of the masks' weights.

    scores: float16 [H, W], 0-1.
    """

    def __init__(self, rows: Axis, columns: Axis, channels: int, channel: int, *, shares: bool = False) -> None:
        super().__init__(rows, columns, channels, shares=shares)
        self.channel = channel
        self.scores: npt.NDArray[np.float16] = np.empty(self.size, np.float16)

    def draw(self, values: Tensor, rows: Axis, columns: Axis, shown: Tensor | None) -> None:
        channel = self.channel
        if shown is not None:
            if not bool((shown == channel).any()):
                self.scores[self.done : self.done + len(rows)] = 0
                return
            channel = int((shown == channel).nonzero())
        for start, stop in bands(len(rows), 2 * len(values) * len(columns), values.device):
            here = columns.along_rows(rows.rows(start, stop).upsample(values))  # [K, n, W]
            share = self._share(here, channel).nan_to_num_(0).clamp_(0, 1)
            self.scores[self.done + start : self.done + stop] = share.half().cpu().numpy()

    def _share(self, values: Tensor, channel: int) -> Tensor:
        if self.shares:
            return values[channel] / values[-1]
        return (values[channel] - values.logsumexp(dim=0)).exp()
