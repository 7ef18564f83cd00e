"""Sums a bilateral Gaussian over all pixels in linear time.

    K(i, j) = exp(-1/2 [|position_i - position_j|^2 / sigma_space^2 + |colour_i - colour_j|^2 / sigma_colour^2])

K is taken as W G W': W interpolates multilinearly between the nodes of a lattice over position and colour, G is the
Gaussian between nodes (a bilateral grid: Chen, Paris and Durand, SIGGRAPH 2007; as a kernel: Wilson and Nickisch, ICML
2015). The lattice is dense in space and holds only those colours that the image has, so that the blur between nodes is
a few products with small sparse matrices. A test holds its labels against those of the exact sum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage, sparse

from lexiseg.errors import SettingError

__all__ = ["Bilateral"]

# distance of nodes in sigmas; a colour step of 1 was measured to cost 0.2 % of the CRF's labels at 288 x 288
SPACE_STEP, COLOUR_STEP = 0.6, 0.75
SPACE_REACH, COLOUR_REACH = 4, 3  # sigmas, beyond which nothing passes between nodes
MAX_NODES = 1 << 28  # 1 GB for each field

Array = npt.NDArray[np.float32]


class Bilateral:
    """The sums of one image: `bilateral(values)` is approximately K @ values, up to one constant factor.

    rgb: uint8 [H, W, 3]. sigma_space: pixels. sigma_colour: levels of 0-255.

    The factor cancels where sums are normalised. Holds 256 bytes for each pixel.

    Raises `SettingError` where the sigmas are too small for so large an image.
    """

    def __init__(self, rgb: npt.NDArray[np.uint8], sigma_space: float, sigma_colour: float) -> None:
        height, width = rgb.shape[:2]
        space, colour = _step(SPACE_STEP * sigma_space), _step(COLOUR_STEP * sigma_colour)
        rows, columns = _axis(np.arange(height), space), _axis(np.arange(width), space)
        colours = _Colours.of(rgb.reshape(-1, 3), colour)
        self.shape = rows.nodes, columns.nodes, len(colours.nodes)
        if math.prod(self.shape) > MAX_NODES:
            raise SettingError(
                f"sigmas of {sigma_space} pixels and {sigma_colour} levels need {math.prod(self.shape):,} nodes for "
                f"{width} x {height} pixels; use larger ones, or a smaller short_side"
            )
        self._weights = _interpolation(rows, columns, colours)
        down, across = (_gaussian(axis.nodes, space, sigma_space) for axis in (rows, columns))
        identity = sparse.identity
        self._between_places = [
            sparse.kron(down, identity(columns.nodes, np.float32), "csr"),
            sparse.kron(identity(rows.nodes, np.float32), across, "csr"),
        ]
        self._between_colours = [_between(colours.nodes, axis, colour, sigma_colour) for axis in range(3)]

    def __call__(self, values: Array) -> Array:
        """[M, N] to [M, N]: M fields over the N pixels, in row order. They are divided among torch's threads.

        All products are with sparse matrices: those of scipy run on the thread that asks, while a BLAS would start
        threads of its own below these.
        """
        with ThreadPoolExecutor(torch.get_num_threads(), "lexiseg-refine") as pool:
            return np.stack(list(pool.map(self._sums, values)))

    def _sums(self, values: Array) -> Array:
        sums: Array = self._weights @ self._blur(self._weights.T @ values)
        return sums

    def _blur(self, nodes: Array) -> Array:
        """G @ nodes, one axis after the other; [rows * columns * colours]."""
        nodes = nodes.reshape(-1, self.shape[2])
        for matrix in self._between_places:
            nodes = matrix @ nodes
        nodes = np.ascontiguousarray(nodes.T)  # [colours, rows * columns]
        for matrix in self._between_colours:
            nodes = matrix @ nodes
        return np.ascontiguousarray(nodes.T).reshape(-1)


class _Axis(NamedTuple):
    """Where places lie between the nodes of one axis: `fraction` of the way from node `low` to the next."""

    low: npt.NDArray[np.int32]
    fraction: Array
    nodes: int

    def corner(self, upper: int) -> tuple[npt.NDArray[np.int32], Array]:
        """The lower (0) or upper (1) node of each place, and its share."""
        return self.low + np.int32(upper), self.fraction if upper else 1 - self.fraction


class _Colours(NamedTuple):
    """node, share: of the 8 corners of each pixel's cell [8, N]; nodes: the places of all that are held [n, 3].

    Held are the corners and their next neighbours: a blur that goes along one axis after the other passes through
    them on its way from corner to corner. Without them isolated colours would lose up to a third of their sum.
    """

    node: npt.NDArray[np.int32]
    share: Array
    nodes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rgb: npt.NDArray[np.uint8], step: int) -> _Colours:
        axes = [_axis(rgb[:, channel].astype(np.int32), step) for channel in range(3)]
        shape = tuple(axis.nodes for axis in axes)
        corners = [_corner(axes, upper) for upper in itertools.product((0, 1), repeat=3)]
        occurs = np.zeros(shape, bool)
        for places, _ in corners:
            occurs[places] = True
        held = ndimage.binary_dilation(occurs)
        number = np.cumsum(held, dtype=np.int32).reshape(shape) - 1
        node = np.stack([number[places] for places, _ in corners])
        return cls(node, np.stack([share for _, share in corners]), np.argwhere(held))


def _step(wanted: float) -> int:
    """Whole pixels or levels, which is what the compensation in `_weight` assumes."""
    return max(1, round(wanted))


def _axis(places: npt.NDArray[Any], step: int) -> _Axis:
    """Nodes `step` apart that lie symmetrically around `places`, so that a mirrored image has mirrored sums."""
    first, last = int(places.min()), int(places.max())
    nodes = max(2, -(-(last - first) // step) + 1)
    start = (first + last - (nodes - 1) * step) / 2
    on_nodes = (places - start) / step
    low = np.floor(on_nodes).clip(0, nodes - 2).astype(np.int32)
    return _Axis(low, (on_nodes - low).astype(np.float32), nodes)


def _corner(axes: Sequence[_Axis], upper: Sequence[int]) -> tuple[tuple[npt.NDArray[np.int32], ...], Array]:
    places, shares = zip(*(axis.corner(side) for axis, side in zip(axes, upper, strict=True)), strict=True)
    return places, np.prod(shares, axis=0)


def _interpolation(rows: _Axis, columns: _Axis, colours: _Colours) -> Any:
    """W: sparse [pixels, rows * columns * colours], 32 nodes to a pixel."""
    pixels = len(rows.low) * len(columns.low)
    node, share = np.empty((pixels, 32), np.int32), np.empty((pixels, 32), np.float32)
    for place, upper in enumerate(itertools.product((0, 1), repeat=2)):
        (row, row_share), (column, column_share) = rows.corner(upper[0]), columns.corner(upper[1])
        cell = (row[:, None] * np.int32(columns.nodes) + column).reshape(-1)
        cell_share = (row_share[:, None] * column_share).reshape(-1)
        part = slice(8 * place, 8 * place + 8)
        node[:, part] = (cell * np.int32(len(colours.nodes)) + colours.node).T
        share[:, part] = (cell_share * colours.share).T
    ends = np.arange(0, node.size + 1, 32)
    shape = pixels, rows.nodes * columns.nodes * len(colours.nodes)
    return sparse.csr_matrix((share.reshape(-1), node.reshape(-1), ends), shape=shape)


def _gaussian(nodes: int, step: int, sigma: float) -> Any:
    """The Gaussian between the nodes of an axis of space, sparse [n, n]."""
    reach = min(nodes - 1, int(SPACE_REACH * sigma / step))
    weights = [_weight(offset, step, sigma) for offset in range(-reach, reach + 1)]
    return sparse.diags(weights, range(-reach, reach + 1), shape=(nodes, nodes), format="csr", dtype=np.float32)


def _weight(offset: int, step: int, sigma: float) -> float:
    """The Gaussian between nodes `offset` apart, narrower by what the interpolation adds on both of its ends.

    A place t of the way between two nodes is spread over them with variance t (1 - t) step^2: (step^2 - 1) / 6 on
    average over whole places.
    """
    return math.exp(-0.5 * (offset * step) ** 2 / (sigma**2 - (step**2 - 1) / 3))


def _between(nodes: npt.NDArray[np.int64], axis: int, step: int, sigma: float) -> Any:
    """The Gaussian along one axis of colour, between the nodes that are held, sparse [n, n]."""
    number = np.full(nodes.max(axis=0) + 1, -1, np.int32)
    number[tuple(nodes.T)] = np.arange(len(nodes), dtype=np.int32)
    reach = int(COLOUR_REACH * sigma / step)
    padded = np.pad(number, [(reach, reach) if side == axis else (0, 0) for side in range(3)], constant_values=-1)
    target, source, weight = [], [], []
    for offset in range(-reach, reach + 1):
        shifted = nodes + np.where(np.arange(3) == axis, offset + reach, 0)
        found = padded[tuple(shifted.T)]
        here = np.flatnonzero(found >= 0)
        target.append(here)
        source.append(found[here])
        weight.append(np.full(len(here), _weight(offset, step, sigma), np.float32))
    entries = np.concatenate(weight), (np.concatenate(target), np.concatenate(source))
    return sparse.csr_matrix(entries, shape=(len(nodes), len(nodes)))
