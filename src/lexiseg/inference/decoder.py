"""Decodes values on a coarse grid to a full-size label map.

C x H x W of them never exist.

Upsampling, argmax, the winner's posterior, the background and the threshold are one pass. Labels are those of
`F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(0)`, the first maximum winning, but where two
classes are equal to within float rounding. On a CPU with numba only classes that can win are looked at; elsewhere
torch takes the maximum over a few classes at a time.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.inference.canvas import Canvas, bands
from lexiseg.inference.upsample import Axis
from lexiseg.segmentation import label_dtype

__all__ = ["Decoded", "Decoder"]

TILE = {True: 16, False: 64}  # pixels: with posteriors the progressions are restarted before rounding adds up
BLOCK = 64  # rows of label map that a thread takes at a time

Block = Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], None]


class Decoded(NamedTuple):
    """labels: uint8 or uint16 [H, W]; scores: float16 [H, W], the winner's posterior, 0-1, or None."""

    labels: npt.NDArray[Any]
    scores: npt.NDArray[np.float16] | None


class Decoder(Canvas):
    """A label map.

    background: the last channel is the background.
    threshold: pixels whose winner has a smaller posterior stay unlabelled.
    scores: whether `finish` returns the posteriors.

    The posterior is the softmax over classes, correct to 1e-4 of its value before it is rounded to float16; with
    `shares`, the winner's part of the last channel.
    """

    def __init__(
        self,
        rows: Axis,
        columns: Axis,
        channels: int,
        *,
        background: bool = False,
        threshold: float | None = None,
        scores: bool = True,
        shares: bool = False,
    ) -> None:
        super().__init__(rows, columns, channels, shares=shares)
        self.background = channels - 1 if background else -1
        dtype = label_dtype(channels - background)
        self.unlabelled = int(np.iinfo(dtype).max)
        self.threshold = 0.0 if threshold is None else threshold
        self.posterior = scores or self.threshold > 0
        self.labels = np.empty(self.size, dtype)
        self.scores = np.empty(self.size, np.float16) if scores else None

    @property
    def policy(self) -> tuple[int, np.float32, int]:
        """What the kernels' `policy` is."""
        return self.background, np.float32(self.threshold), self.unlabelled

    def kernels(self, device: torch.device) -> ModuleType | None:
        """The compiled loops, where they can be used."""
        return _kernels() if device.type == "cpu" else None

    def draw(self, values: Tensor, rows: Axis, columns: Axis, shown: Tensor | None) -> None:
        if shown is not None:
            self._with_few(values, rows, columns, shown)
        elif self.kernels(values.device) is None:
            self._with_torch(values, rows, columns)
        else:
            self._with_kernel(values.permute(1, 2, 0).contiguous().numpy(), rows, columns)

    def finish(self) -> Decoded:
        assert self.done == len(self.labels), "some rows of the grid are missing"
        return Decoded(self.labels, self.scores)

    def _with_few(self, values: Tensor, rows: Axis, columns: Axis, shown: Tensor) -> None:
        """By a decoder of these channels, whose labels are then those of the channels."""
        few = Decoder(
            rows,
            columns,
            len(shown),
            background=bool(shown[-1] == self.background),
            threshold=self.threshold,
            scores=self.scores is not None,
            shares=self.shares,
        )
        few.fill(values, rows, columns)
        classes = shown[: few.channels - (few.background >= 0)].cpu().numpy()
        channel_of = np.full(few.unlabelled + 1, self.unlabelled, self.labels.dtype)
        channel_of[: len(classes)] = classes
        here = slice(self.done, self.done + len(rows))
        self.labels[here] = channel_of[few.labels]
        if self.scores is not None:
            self.scores[here] = few.scores

    def _with_kernel(self, values: npt.NDArray[np.float32], axis: Axis, columns: Axis) -> None:
        """values: [h, w, K]."""
        kernels = _kernels()
        assert kernels is not None
        softmax = self.posterior and not self.shares
        mode = kernels.SHARES if self.shares else (kernels.SOFTMAX if softmax else kernels.LABELS)
        runs_x = columns.runs(TILE[softmax])
        # what is left out of the softmax is below C exp(-margin) of the winner
        margin = np.float32(math.log(self.channels) + 11)
        labels = self.labels[self.done : self.done + len(axis)]

        def block(runs: npt.NDArray[np.int32], shares: npt.NDArray[np.float32]) -> None:
            kernels.label_tiles(
                values, axis.arrays, columns.arrays, runs, runs_x, mode, margin, self.policy, labels, shares
            )

        self.in_blocks(block, axis.runs(TILE[softmax]), self.done)

    def in_blocks(self, block: Block, runs: npt.NDArray[np.int32], first: int) -> None:
        """Calls `block` with consecutive runs of rows, on as many threads as torch uses, and room for their scores.

        runs: where they start, counted from row `first` of the label map, then the end.
        """

        def call(part: npt.NDArray[np.int32]) -> None:
            wanted = (part[-1] - part[0], self.labels.shape[1]) if self.posterior else (0, 0)
            shares = np.empty(wanted, np.float32)
            block(part, shares)
            if self.scores is not None:
                self.scores[first + part[0] : first + part[-1]] = shares

        _in_threads(call, _blocks(runs))

    def _with_torch(self, values: Tensor, axis: Axis, columns: Axis) -> None:
        width = len(columns)
        for start, stop in bands(len(axis), 4 * width, values.device):
            part = axis.rows(start, stop)
            best = _Best((stop - start, width), values.device, softmax=self.posterior and not self.shares)
            for lower, upper in bands(self.channels, (stop - start) * width, values.device):
                best.add(columns.along_rows(part.upsample(values[lower:upper])), lower)
            posterior = best.posterior()
            if self.shares:
                whole = columns.along_rows(part.upsample(values[-1:]))[0]
                posterior = (best.value / whole).nan_to_num_(0).clamp_(0, 1)
            self._write(self.done + start, best.label, posterior)

    def _write(self, start: int, label: Tensor, posterior: Tensor) -> None:
        label[label == self.background] = self.unlabelled
        if self.posterior:
            label[posterior < self.threshold] = self.unlabelled
        self.labels[start : start + len(label)] = label.cpu().numpy()
        if self.scores is not None:
            self.scores[start : start + len(label)] = posterior.half().cpu().numpy()


class _Best:
    """The running maximum over chunks of classes, and the running sum of exp(value - maximum)."""

    def __init__(self, size: tuple[int, int], device: torch.device, *, softmax: bool) -> None:
        self.softmax = softmax
        self.value = torch.full(size, float("-inf"), device=device)
        self.label = torch.zeros(size, dtype=torch.int32, device=device)
        self.total = torch.zeros(size, device=device)

    def add(self, values: Tensor, first: int) -> None:
        value, label = values.max(dim=0)
        better = value > self.value
        self.label = torch.where(better, label.int() + first, self.label)
        value = torch.where(better, value, self.value)
        if self.softmax:
            self.total *= (self.value - value).exp_()
            self.total += (values - value).exp_().sum(dim=0)
        self.value = value

    def posterior(self) -> Tensor:
        return self.total.reciprocal() if self.softmax else self.total


def _blocks(runs: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int32]]:
    """Consecutive runs, about BLOCK rows of them together."""
    cuts = np.flatnonzero(np.diff(runs // BLOCK)) + 1
    edges = [0, *cuts[cuts < len(runs) - 1], len(runs) - 1]
    return [runs[start : stop + 1] for start, stop in itertools.pairwise(edges) if start < stop]


def _in_threads(function: Any, items: list[Any]) -> None:
    """Runs `function` on each item with as many threads as torch uses."""
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(function, items):
            pass


@functools.cache
def _kernels() -> ModuleType | None:
    """The compiled loops, or None where numba is missing or does not fit the installed numpy."""
    try:
        from lexiseg.inference import _kernels
    except ImportError:
        return None
    return _kernels
