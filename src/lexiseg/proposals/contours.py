"""Makes regions from an ultrametric map of colour contours.

Regions merge across their weakest borders.

In the place of gPb-UCM (Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation",
PAMI 33(5), 2011), with which ZSSeg compares MaskFormer (Table 5), and for which no package exists. It has their second
half: the watershed's regions, a strength of each border that is its mean along the border, merging across the weakest,
and a hierarchy whose levels nest. It lacks their first, a contour detector that has learned to combine brightness,
colour, texture and a spectral analysis: here the strength of a contour at a pixel is the gradient of the colours
(CIELAB) over several scales. Expect less of it than of gPb-UCM.

    g(x) = mean over scales σ of  σ √(Σ_channels |∇ G_σ * channel|²)
    height of the node of a and b = max(mean of g along their border, heights of a and b)

The height at which two pixels come into one node is an ultrametric: cuts of the hierarchy at rising heights are coarser
and coarser partitions. The masks are the nodes that exist at any of several cuts, large and lasting ones first.

A picture of 320 x 240 pixels takes about 0.3 s on one core.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from skimage.segmentation import watershed
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.proposals._merging import Floats, Hierarchy, Ints, check_numbers, distinct, merge, neighbours
from lexiseg.proposals._proposals import Proposals
from lexiseg.proposals._scaling import scaled_down

__all__ = ["Borders", "Config", "Contours", "Gradient", "borders", "chosen", "heights", "hierarchy", "load"]

FIRST = 1e6  # more than any strength of a border
ALL, BUT_LAST, BUT_FIRST = slice(None), slice(-1), slice(1, None)
BESIDE = (((ALL, BUT_LAST), (ALL, BUT_FIRST)), ((BUT_LAST, ALL), (BUT_FIRST, ALL)))  # pixels and the next: x, then y


@dataclass(frozen=True)
class Config:
    """sigmas: scales of the gradient, pixels.
    thresholds: where the hierarchy is cut, as fractions of the height at which the whole picture is one region; 0-1.
    min_size: pixels of the smallest region, and so of the smallest mask.
    long_side: pixels that a larger picture is scaled down to first; None keeps its size.
    most: masks, at most.
    overlap: IoU above which the lower of two masks is left out, 0-1.
    """

    sigmas: tuple[float, ...] = (1.0, 2.0, 4.0)
    thresholds: tuple[float, ...] = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    min_size: int = 100
    long_side: int | None = 320
    most: int = 100
    overlap: float = 0.9

    def __post_init__(self) -> None:
        check_numbers(self, min_size=1, long_side=1, most=1, overlap=0)
        if not (self.sigmas and 0 < min(self.sigmas) <= max(self.sigmas) < float("inf")):
            raise SettingError(f"sigmas must be above 0 (pixels), one or more, got {self.sigmas}")
        if not (self.thresholds and 0 <= min(self.thresholds) <= max(self.thresholds) <= 1):
            raise SettingError(f"thresholds must be 0 to 1, one or more, got {self.thresholds}")


@dataclass(frozen=True)
class Contours:
    config: Config

    def propose(self, images: Tensor) -> Proposals:
        images = scaled_down(images, self.config.long_side)
        each = [self._of_picture(image.permute(1, 2, 0).cpu().numpy()) for image in images]
        return Proposals.batch(each).to(images.device)

    def _of_picture(self, rgb: NDArray[np.uint8]) -> Proposals:
        config = self.config
        gradient = Gradient.of(rgb, config.sigmas)
        basins = watershed(gradient.strength).astype(np.int64)
        labels = basins - basins.min()  # a picture of one colour has a basin 0
        found = hierarchy(labels, borders(labels, gradient), config.min_size)
        nodes = (found.mask(node) for node in chosen(found, config.thresholds))
        masks = list(distinct(nodes, config.most, config.overlap))
        return Proposals.of_weights(torch.from_numpy(np.stack(masks))[None])


@dataclass(frozen=True, eq=False)
class Gradient:
    """How fast colours change at each pixel, and which way.

    tensor: of each scale, the sums over the channels of x x, x y and y y of their slopes [S, 3, H, W], in squared units
        of CIELAB.
    """

    tensor: Floats

    @classmethod
    def of(cls, rgb: NDArray[np.uint8], sigmas: tuple[float, ...]) -> Gradient:
        """Of a picture [H, W, 3], at scales in pixels."""
        channels = np.moveaxis(np.asarray(rgb2lab(rgb)), 2, 0)
        tensor = np.empty((len(sigmas), 3, *rgb.shape[:2]))
        for sums, sigma in zip(tensor, sigmas, strict=True):
            along, down = (
                sigma * np.stack([gaussian_filter(each, sigma, order=order) for each in channels])
                for order in ((0, 1), (1, 0))
            )
            for place, product in enumerate((along * along, along * down, down * down)):
                sums[place] = product.sum(axis=0)
        return cls(tensor)

    @property
    def strength(self) -> Floats:
        """In whatever direction, the mean over the scales [H, W]."""
        return np.asarray(np.sqrt(self.tensor[:, 0] + self.tensor[:, 2]).mean(axis=0))


@dataclass(frozen=True, eq=False)
class Borders:
    """pairs: regions that meet [P, 2], the smaller first; totals: the strength along each border [P];
    lengths: places where pixels meet [P].
    """

    pairs: Ints
    totals: Floats
    lengths: Ints


def borders(labels: NDArray[np.int64], gradient: Gradient) -> Borders:
    """How strong the contour along each border is: what crosses it counts, not what runs along it.

    labels: of regions from 0 on [H, W].

    The direction of a border is that of its pixels' steps from one region to the other, added up. As far as these
    cancel, because it curves, the gradient counts in whatever direction. Each place counts with its stronger pixel.
    """
    pairs, count = neighbours(labels), int(labels.max()) + 1
    strength, pixels = gradient.strength, np.arange(labels.size).reshape(labels.shape)
    codes, steps, at = [], [], []
    for axis, (one, other) in enumerate(BESIDE):
        apart = labels[one] != labels[other]
        before, after = labels[one][apart], labels[other][apart]
        codes.append(np.minimum(before, after) * count + np.maximum(before, after))
        steps.append(np.eye(2)[axis] * np.sign(after - before)[:, None])  # to the larger number
        stronger = np.where(strength[one] >= strength[other], pixels[one], pixels[other])
        at.append(stronger[apart])
    place = np.searchsorted(pairs[:, 0] * count + pairs[:, 1], np.concatenate(codes))
    lengths = np.bincount(place, minlength=len(pairs))
    normal = np.stack([np.bincount(place, step, minlength=len(pairs)) for step in np.concatenate(steps).T])  # [2, P]
    straight = np.abs(normal).sum(axis=0) / np.maximum(lengths, 1)
    x, y = (normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-12))[:, place]
    xx, xy, yy = np.moveaxis(gradient.tensor.reshape(len(gradient.tensor), 3, -1)[..., np.concatenate(at)], 1, 0)
    across = x * x * xx + 2 * x * y * xy + y * y * yy
    mixed = straight[place] * across + (1 - straight[place]) * (xx + yy)
    values = np.sqrt(np.maximum(mixed, 0)).mean(axis=0)
    totals = np.bincount(place, values, minlength=len(pairs)).astype(float)  # whole numbers where there is no pair
    return Borders(pairs, totals, lengths)


def hierarchy(labels: NDArray[np.int64], between: Borders, min_size: int = 1) -> Hierarchy:
    """Merges the two regions with the weakest border until one is left.

    labels: of regions from 0 on that hang together [H, W].

    Regions of fewer than `min_size` pixels come first: the narrow ones along a blurred contour have strong borders all
    around, and would last. `Hierarchy.strengths` are minus the borders' mean strengths at the time of each merge; FIRST
    minus them while one of the two is too small.
    """
    pairs = between.pairs
    nodes = 2 * int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=nodes)
    around: list[dict[int, tuple[float, int]]] = [{} for _ in range(nodes)]
    for (one, other), total, length in zip(
        pairs.tolist(), between.totals.tolist(), between.lengths.tolist(), strict=True
    ):
        around[one][other] = around[other][one] = (total, length)

    def pull(new: int, pair: tuple[int, int], others: Ints) -> Floats:
        sizes[new] = sizes[list(pair)].sum()
        means = []
        for each in others.tolist():
            (one, few), (other, more) = (around[each].pop(old, (0.0, 0)) for old in pair)
            around[new][each] = around[each][new] = (one + other, few + more)
            means.append((one + other) / (few + more))
        small = np.minimum(sizes[new], sizes[others]) < min_size
        return np.asarray(FIRST * small - np.array(means), float)

    small = np.minimum(sizes[pairs[:, 0]], sizes[pairs[:, 1]]) < min_size
    return merge(labels, pairs, FIRST * small - between.totals / between.lengths, pull)


def heights(found: Hierarchy) -> Floats:
    """At which height each node comes into being [2R - 1], none before its parts; 0 for what was too small to last."""
    height = np.zeros(found.nodes)
    for step, (pair, strength) in enumerate(zip(found.merges, found.strengths, strict=True)):
        height[found.leaves + step] = max(-strength, *height[pair])
    return height


def chosen(found: Hierarchy, thresholds: tuple[float, ...]) -> list[int]:
    """The nodes that exist at any of the cuts, the whole picture first at 1, then by height of life times √area."""
    height = heights(found)
    ends = np.append(height[found.parents[:-1]], np.inf)  # where each becomes part of the next
    cuts = np.asarray(thresholds)[:, None] * height[-1]
    alive = np.flatnonzero(((height <= cuts) & (cuts < ends)).any(axis=0))
    worth = (ends - height)[alive] * np.sqrt(found.sizes[alive])
    return [int(node) for node in alive[np.argsort(-worth, kind="stable")]]


def load(config: Config) -> Contours:
    return Contours(config)
