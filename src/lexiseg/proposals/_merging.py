"""Merges neighbouring regions step by step.

One pair at a time, the strongest first, until one is left.

A hierarchy of R regions has 2R - 1 nodes: the regions are nodes 0 to R - 1, and merge t makes node R + t of two others.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import SettingError

__all__ = ["Hierarchy", "Strength", "check_numbers", "distinct", "merge", "neighbours"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = NDArray[np.integer]

# of a node with each of its neighbours [n]; a new node is asked about once, as soon as it is made of the two nodes
Strength = Callable[[int, tuple[int, int], Ints], Floats]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """labels: the region of each pixel, 0 to R - 1 [H, W].
    merges: the two nodes of each merge, the smaller number first [R - 1, 2].
    strengths: of each merge [R - 1].
    """

    labels: NDArray[np.int64]
    merges: Ints
    strengths: Floats

    @property
    def leaves(self) -> int:
        return len(self.merges) + 1

    @property
    def nodes(self) -> int:
        return 2 * self.leaves - 1

    @property
    def parents(self) -> Ints:
        """The node that each one became part of [2R - 1]; of the last one itself."""
        parents = np.arange(self.nodes)
        parents[self.merges] = self.leaves + np.arange(len(self.merges))[:, None]
        return parents

    @property
    def sizes(self) -> Ints:
        """Pixels of each node [2R - 1]."""
        sizes = np.bincount(self.labels.ravel(), minlength=self.nodes)
        for step, pair in enumerate(self.merges):
            sizes[self.leaves + step] = sizes[pair].sum()
        return sizes

    def mask(self, node: int) -> NDArray[np.bool_]:
        """The pixels of a node [H, W]."""
        inside = np.zeros(self.leaves, bool)
        waiting = [node]
        while waiting:
            each = waiting.pop()
            if each < self.leaves:
                inside[each] = True
            else:
                waiting += self.merges[each - self.leaves].tolist()
        return np.asarray(inside[self.labels])


def neighbours(labels: Labels) -> Ints:
    """Pairs of regions that share a border along a row or a column, each once, in order [P, 2], the smaller first."""
    count = int(labels.max()) + 1
    codes = [
        np.minimum(one, other).astype(np.int64)[apart] * count + np.maximum(one, other)[apart]
        for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1]))
        for apart in (one != other,)
    ]
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), count), axis=1)


def merge(labels: Labels, pairs: Ints, first: Floats, strength: Strength) -> Hierarchy:
    """Merges the strongest pair of neighbours, and asks how strongly the new node pulls at its own, until one is left.

    labels: the region of each pixel, from 0 on, all of which occur and hang together.
    pairs: neighbours [P, 2]; first: the strength of each [P].

    Of equal pairs the one with the smaller numbers comes first.
    """
    count = int(labels.max()) + 1
    around: list[set[int]] = [set() for _ in range(2 * count - 1)]
    for one, other in pairs.tolist():
        around[one].add(other)
        around[other].add(one)
    queue = [(-value, one, other) for value, (one, other) in zip(first.tolist(), pairs.tolist(), strict=True)]
    heapq.heapify(queue)
    alive = np.ones(2 * count - 1, bool)
    merges, strengths = np.empty((count - 1, 2), np.int64), np.empty(count - 1)
    for step in range(count - 1):
        negative, one, other = heapq.heappop(queue)
        while not (alive[one] and alive[other]):
            negative, one, other = heapq.heappop(queue)
        merges[step], strengths[step] = (one, other), -negative
        alive[[one, other]] = False
        new = count + step
        beside = np.array(sorted((around[one] | around[other]) - {one, other}), np.int64)
        around[new] = set(beside.tolist())
        for each in beside.tolist():
            around[each] -= {one, other}
            around[each].add(new)
        around[one], around[other] = set(), set()
        for value, each in zip(strength(new, (one, other), beside).tolist(), beside.tolist(), strict=True):
            heapq.heappush(queue, (-value, each, new))
    return Hierarchy(np.asarray(labels, np.int64), merges, strengths)


def distinct(masks: Iterable[NDArray[np.bool_]], most: int, overlap: float) -> Iterator[NDArray[np.bool_]]:
    """The masks [H, W] in order, without those whose IoU with an earlier one is above `overlap`; at most so many."""
    kept: list[NDArray[np.bool_]] = []
    areas: list[int] = []
    for mask in masks:
        area = int(np.count_nonzero(mask))
        alike = (
            place for place, other in enumerate(areas) if min(area, other) > overlap * max(area, other)
        )  # else the IoU cannot be
        if any(_iou(mask, kept[place], area + areas[place]) > overlap for place in alike):
            continue
        kept.append(mask)
        areas.append(area)
        yield mask
        if len(kept) == most:
            return


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_], areas: int) -> float:
    both = np.count_nonzero(one & other)
    return both / (areas - both)


def check_numbers(config: object, **least: float) -> None:
    """Raises `SettingError` for a setting that is neither None nor a finite number of at least so much."""
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and not smallest <= value < float("inf"):
            raise SettingError(f"{name} must be {smallest:g} or more, got {value}")
