"""The fused decoder: logits on a coarse grid to a label map at full size, C x H x W of which never exists.

Upsampling, argmax, the winner's posterior, the background and the threshold are one pass. Labels are those of
`F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(0)`, the first maximum winning, but where two
classes are equal to within float rounding. On a CPU with numba only classes that can win are looked at; elsewhere
torch takes the maximum over a few classes at a time.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.errors import LexisegError
from lexiseg.inference import masks
from lexiseg.inference.upsample import Axis, to_width, value_rows
from lexiseg.segmentation import label_dtype
from lexiseg.segmenter import DenseLogits, MaskScores

__all__ = ["Decoded", "Decoder", "bands", "decode", "sound"]

TILE = {True: 16, False: 64}  # pixels: with posteriors the progressions are restarted before rounding adds up
BLOCK = 64  # rows of label map that a thread takes at a time
CHUNK = 1 << 22  # numbers that the torch path holds at a time, on a CPU
FLOOR = 1e4  # -inf becomes the smallest finite logit minus this

Block = Callable[[npt.NDArray[np.int32], npt.NDArray[np.float32]], None]


class Decoded(NamedTuple):
    """labels: uint8 or uint16 [H, W]; scores: float16 [H, W], the winner's posterior, 0-1, or None."""

    labels: npt.NDArray[Any]
    scores: npt.NDArray[np.float16] | None


def decode(
    result: DenseLogits | MaskScores,
    size: tuple[int, int],
    *,
    threshold: float | None = None,
    scores: bool = True,
) -> Decoded:
    """The label map of one image (B = 1) at `size` (height, width).

    threshold: pixels whose winner has a smaller posterior stay unlabelled, as do those the background wins.
    scores: whether the posteriors are wanted. They are a softmax over classes for `DenseLogits`, correct to 1e-4 of
    their value before they are rounded to float16; for `MaskScores` the mean of the winner's scores over masks, each
    mask weighing sigmoid(mask).

    Raises `LexisegError` for logits that are NaN or infinite; -inf is allowed and never wins.
    """
    if isinstance(result, DenseLogits):
        logits = result.logits[0]
        channels, height, width = logits.shape
        decoder = Decoder(
            size, (height, width), channels, background=result.background, threshold=threshold, scores=scores
        )
        decoder.add(logits)
        return decoder.finish()
    channels, count = result.scores.shape[-1], result.scores.shape[-2]
    decoder = Decoder(
        size, size, channels, background=result.background, threshold=threshold, scores=scores, shares=True
    )
    if decoder.kernels(result.masks.device) is not None:
        masks.decode(result, decoder)
        return decoder.finish()
    for start, stop in bands(size[0], (channels + count) * size[1], result.masks.device):
        decoder.add(value_rows(result, size, start, stop), start)
    return decoder.finish()


def bands(rows: int, numbers_per_row: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """Rows in pieces that hold about as many numbers as should be in memory at a time."""
    step = max(1, _budget(device) // max(1, numbers_per_row))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


class Decoder:
    """A label map that is filled from the top as bands of grid rows arrive.

    size: (height, width) of the label map; grid: (height, width) of the logits; channels: C.
    background: the last channel is the background.
    shares: the values are not logits but sums over masks, followed by one more channel that they are shares of.
    """

    def __init__(
        self,
        size: tuple[int, int],
        grid: tuple[int, int],
        channels: int,
        *,
        background: bool = False,
        threshold: float | None = None,
        scores: bool = True,
        shares: bool = False,
    ) -> None:
        self.channels, self.shares = channels, shares
        self.rows, self.columns = Axis.of(grid[0], size[0]), Axis.of(grid[1], size[1])
        self.background = channels - 1 if background else -1
        dtype = label_dtype(channels - background)
        self.unlabelled = int(np.iinfo(dtype).max)
        self.threshold = 0.0 if threshold is None else threshold
        self.posterior = scores or self.threshold > 0
        self.labels = np.empty(size, dtype)
        self.scores = np.empty(size, np.float16) if scores else None
        self.done = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the label map."""
        height, width = self.labels.shape
        return height, width

    @property
    def policy(self) -> tuple[int, np.float32, int]:
        """What the kernels' `policy` is."""
        return self.background, np.float32(self.threshold), self.unlabelled

    def kernels(self, device: torch.device) -> ModuleType | None:
        """The compiled loops, where they can be used."""
        return _kernels() if device.type == "cpu" else None

    def add(self, values: Tensor, first: int = 0) -> None:
        """Takes grid rows `first` ... [C, n, w], and decodes every row of the label map that they complete.

        Bands come in order, and each repeats the last grid row of the one before: rows in between need both.
        """
        start, stop = self.done, int(np.searchsorted(self.rows.high, first + values.shape[1]))
        if start == stop:
            return
        assert self.rows.low[start] >= first, "a band does not repeat the last row of the one before"
        self.fill(values, self.rows.rows(start, stop, first), self.columns)

    def fill(self, values: Tensor, rows: Axis, columns: Axis) -> None:
        """Decodes the next rows of the label map, which lie as `rows` and `columns` say on a grid of values [C, h, w].

        The pixels that lie between the same two cells of `columns` lie there evenly; so do those of `rows`.
        """
        values = values.float() if self.shares else sound(values.float())
        kernels = self.kernels(values.device)
        if kernels is None:
            self._with_torch(values, rows, columns)
        else:
            self.with_kernel(values.permute(1, 2, 0).contiguous().numpy(), rows, columns)
        self.done += len(rows)

    def finish(self) -> Decoded:
        assert self.done == len(self.labels), "some rows of the grid are missing"
        return Decoded(self.labels, self.scores)

    def with_kernel(self, values: npt.NDArray[np.float32], axis: Axis, columns: Axis, first: int | None = None) -> None:
        """Decodes rows `first` ..., or the next ones, from values [h, w, C] with the compiled loops."""
        kernels = _kernels()
        assert kernels is not None
        softmax = self.posterior and not self.shares
        mode = kernels.SHARES if self.shares else (kernels.SOFTMAX if softmax else kernels.LABELS)
        runs_x = columns.runs(TILE[softmax])
        # what is left out of the softmax is below C exp(-margin) of the winner
        margin = np.float32(math.log(self.channels) + 11)
        first = self.done if first is None else first
        labels = self.labels[first : first + len(axis)]

        def block(runs: npt.NDArray[np.int32], shares: npt.NDArray[np.float32]) -> None:
            kernels.label_tiles(
                values, axis.arrays, columns.arrays, runs, runs_x, mode, margin, self.policy, labels, shares
            )

        self.in_blocks(block, axis.runs(TILE[softmax]), first)

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
        width = self.labels.shape[1]
        # of a regular grid torch's own interpolation is faster
        widen = functools.partial(to_width, width=width) if columns is self.columns else columns.along_rows
        for start, stop in bands(len(axis), 4 * width, values.device):
            part = axis.rows(start, stop)
            best = _Best((stop - start, width), values.device, softmax=self.posterior and not self.shares)
            for lower, upper in bands(self.channels, (stop - start) * width, values.device):
                best.add(widen(part.upsample(values[lower:upper])), lower)
            posterior = best.posterior()
            if self.shares:
                whole = widen(part.upsample(values[-1:]))[0]
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


def sound(logits: Tensor) -> Tensor:
    """Finite logits: -inf becomes a number that never wins. Raises `LexisegError` for NaN and +inf."""
    lowest, highest = torch.aminmax(logits)
    if torch.isfinite(lowest) and torch.isfinite(highest):
        return logits
    if torch.isnan(highest) or torch.isinf(highest):
        wrong = int((torch.isnan(logits) | (logits == float("inf"))).sum())
        raise LexisegError(
            f"{wrong:,} of {logits.numel():,} logits are NaN or infinite; the weights are damaged or the precision is "
            f"too low for them: try dtype='fp32'"
        )
    finite = logits[torch.isfinite(logits)]
    return logits.clamp(min=float(finite.min()) - FLOOR)


def _budget(device: torch.device) -> int:
    return CHUNK if device.type == "cpu" else 16 * CHUNK


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
