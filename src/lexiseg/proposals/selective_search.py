"""Proposes masks by selective search.

It groups pixels into regions at all scales by colour, texture, size and fill.

Uijlings, van de Sande, Gevers and Smeulders, "Selective Search for Object Recognition", IJCV 104(2), 2013; the paper's
ZSSeg compares it with MaskFormer (Table 5). Small regions (Felzenszwalb and Huttenlocher, IJCV 2004) are the start; the
two neighbours that are most alike become one, again and again, until the picture is one region. All regions on the way
are proposals. That is done in several colour spaces, with several similarities and from several starts, since no one of
them is right everywhere; a ranking mixes them, large regions first, with some chance (of a fixed seed).

    s(a, b) = colour + texture + size + fill, or some of them                                       (section 3.2)
    colour  = Σ_k min(c_a^k, c_b^k), histograms of 25 bins a channel that sum to 1
    texture = Σ_k min(t_a^k, t_b^k), of Gaussian derivatives (σ = 1) in 8 directions, 10 bins for each and channel
    size    = 1 - (|a| + |b|) / |picture|
    fill    = 1 - (|box of both| - |a| - |b|) / |picture|

The masks are the regions themselves, not their boxes. The defaults are the paper's "fast" strategies; `QUALITY` are the
others. What the paper leaves open: a derivative counts in the directions where it is positive, its bins go up to the
largest of the channel in the picture, and the smallest start region has `scale` pixels, as in the authors' code.

A picture of 320 x 240 pixels takes about 0.6 s on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2hsv, rgb2lab
from skimage.segmentation import felzenszwalb
from torch import Tensor

from lexiseg.errors import SettingError, UnknownName
from lexiseg.proposals._merging import Floats, Hierarchy, Ints, check_numbers, distinct, merge, neighbours
from lexiseg.proposals._proposals import Proposals
from lexiseg.proposals._scaling import scaled_down

__all__ = ["COLOUR_SPACES", "QUALITY", "Config", "Regions", "SelectiveSearch", "group", "load", "similarity"]

COLOUR_BINS, TEXTURE_BINS, DIRECTIONS = 25, 10, 8
LETTERS = "ctsf"  # colour, texture, size, fill
QUALITY = {
    "colour_spaces": ("hsv", "lab", "rgi", "h", "i"),
    "similarities": ("ctsf", "tsf", "f", "s"),
    "scales": (50.0, 100.0, 150.0, 300.0),
}


@dataclass(frozen=True)
class Config:
    """colour_spaces: names of COLOUR_SPACES.
    similarities: the letters of what is added: c colour, t texture, s size, f fill.
    scales: of the start regions; larger ones give larger regions.
    sigma: of the Gaussian that smooths the picture first, pixels.
    min_size: pixels of the smallest start region; None is the scale.
    long_side: pixels that a larger picture is scaled down to first; None keeps its size.
    most: masks, at most.
    overlap: IoU above which the lower of two masks is left out, 0-1.
    seed: of the chance in the ranking.
    """

    colour_spaces: tuple[str, ...] = ("hsv", "lab")
    similarities: tuple[str, ...] = ("ctsf", "tsf")
    scales: tuple[float, ...] = (50.0, 100.0)
    sigma: float = 0.8
    min_size: int | None = None
    long_side: int | None = 320
    most: int = 100
    overlap: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, sigma=0, min_size=1, long_side=1, most=1, overlap=0, seed=0)
        for space in self.colour_spaces:
            if space not in COLOUR_SPACES:
                raise UnknownName("colour space", space, COLOUR_SPACES)
        for letters in self.similarities:
            if not letters or set(letters) - set(LETTERS):
                raise SettingError(
                    f"similarities are letters of {LETTERS} (colour, texture, size, fill), got {letters!r}"
                )
        if not (self.colour_spaces and self.similarities and self.scales and min(self.scales) >= 0):
            raise SettingError("colour_spaces, similarities and scales need one entry or more, and scales 0 or more")


@dataclass(frozen=True)
class SelectiveSearch:
    config: Config

    def propose(self, images: Tensor) -> Proposals:
        images = scaled_down(images, self.config.long_side)
        each = [self._of_picture(image.permute(1, 2, 0).cpu().numpy()) for image in images]
        return Proposals.batch(each).to(images.device)

    def _of_picture(self, rgb: NDArray[np.uint8]) -> Proposals:
        masks = list(distinct(ranked(rgb, self.config), self.config.most, self.config.overlap))
        return Proposals.of_weights(torch.from_numpy(np.stack(masks))[None])


def ranked(rgb: NDArray[np.uint8], config: Config) -> Iterator[NDArray[np.bool_]]:
    """Every region of every strategy [H, W], best first, from RGB [H, W, 3].

    A region at place i of its hierarchy, the whole picture being 1, is ranked by i times a random number of 0 to 1
    (section 3.3 of the paper), so that large regions come early and strategies mix.
    """
    hierarchies = list(groupings(rgb, config))
    chance = np.random.default_rng(config.seed)
    values = [chance.random(found.nodes) * np.arange(found.nodes, 0, -1) for found in hierarchies]
    places = np.concatenate([np.arange(found.nodes) for found in hierarchies])
    owners = np.repeat(np.arange(len(hierarchies)), [found.nodes for found in hierarchies])
    for best in np.argsort(np.concatenate(values), kind="stable"):
        yield hierarchies[owners[best]].mask(int(places[best]))


def groupings(rgb: NDArray[np.uint8], config: Config) -> Iterator[Hierarchy]:
    """A hierarchy for each colour space, scale and similarity."""
    for space in config.colour_spaces:
        channels = COLOUR_SPACES[space](rgb / 255)
        for scale in config.scales:
            least = round(scale) if config.min_size is None else config.min_size
            labels = felzenszwalb(channels, scale=scale, sigma=config.sigma, min_size=least)
            start = Regions.of(channels, labels.astype(np.int64))
            for letters in config.similarities:
                yield group(start, letters)


@dataclass(frozen=True, eq=False)
class Regions:
    """What is known of the nodes of a hierarchy, R of which are there at the start.

    labels: the region of each pixel [H, W].
    colour, texture: histograms of each channel in turn, [2R - 1, bins], that sum to 1.
    size: pixels [2R - 1].
    box: top, left, bottom, right [2R - 1, 4], in pixels; the ends are not included.
    """

    labels: NDArray[np.int64]
    colour: Floats
    texture: Floats
    size: Floats
    box: Ints

    @classmethod
    def of(cls, channels: Floats, labels: NDArray[np.int64]) -> Regions:
        """The start regions of a picture [H, W, channels] of 0 to 1; the other rows are 0 until `join` fills them."""
        count = int(labels.max()) + 1
        more = ((0, count - 1), (0, 0))
        size = np.bincount(labels.ravel(), minlength=count).astype(float)
        colour, texture = (
            np.pad(_histograms(maps, labels, bins), more)
            for maps, bins in ((channels, COLOUR_BINS), (textures(channels), TEXTURE_BINS))
        )
        return cls(labels, colour, texture, np.pad(size, more[0]), np.pad(_boxes(labels), more))

    @property
    def pixels(self) -> int:
        """Of the picture."""
        return self.labels.size

    def copy(self) -> Regions:
        return Regions(self.labels, self.colour.copy(), self.texture.copy(), self.size.copy(), self.box.copy())

    def join(self, new: int, pair: tuple[int, int]) -> None:
        """Fills the row of a node from the rows of the two that it is made of."""
        both = list(pair)
        share = self.size[both] / self.size[both].sum()
        self.colour[new], self.texture[new] = share @ self.colour[both], share @ self.texture[both]
        self.size[new] = self.size[both].sum()
        self.box[new] = [*self.box[both, :2].min(axis=0), *self.box[both, 2:].max(axis=0)]


def similarity(regions: Regions, one: int | Ints, other: Ints, letters: str) -> Floats:
    """How alike two nodes are, for `one` or several with `other` [n]: the sum of what `letters` name."""
    total = np.zeros(len(other))
    if "c" in letters:
        total += np.minimum(regions.colour[one], regions.colour[other]).sum(axis=-1)
    if "t" in letters:
        total += np.minimum(regions.texture[one], regions.texture[other]).sum(axis=-1)
    sizes = regions.size[one] + regions.size[other]
    if "s" in letters:
        total += 1 - sizes / regions.pixels
    if "f" in letters:
        low = np.minimum(regions.box[one, :2], regions.box[other, :2])
        high = np.maximum(regions.box[one, 2:], regions.box[other, 2:])
        total += 1 - ((high - low).prod(axis=-1) - sizes) / regions.pixels
    return total


def group(start: Regions, letters: str) -> Hierarchy:
    """Merges the two neighbours that are most alike until one region is left (Algorithm 1)."""
    regions = start.copy()
    pairs = neighbours(regions.labels)

    def strength(new: int, pair: tuple[int, int], others: Ints) -> Floats:
        regions.join(new, pair)
        return similarity(regions, new, others, letters)

    return merge(regions.labels, pairs, similarity(regions, pairs[:, 0], pairs[:, 1], letters), strength)


def textures(channels: Floats) -> Floats:
    """Gaussian derivatives in 8 directions, where they are positive: [H, W, C] -> [H, W, 8 C], 0-1.

    1 is the largest of all directions of a channel.
    """
    found = []
    for channel in np.moveaxis(channels, 2, 0):
        down, across = (gaussian_filter(channel, 1.0, order=order) for order in ((1, 0), (0, 1)))
        angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        each = np.maximum(down[..., None] * np.sin(angles) + across[..., None] * np.cos(angles), 0)
        found.append(each / max(each.max(), np.finfo(float).tiny))
    return np.concatenate(found, axis=2)


def _histograms(maps: Floats, labels: NDArray[np.int64], bins: int) -> Floats:
    """Of each map's values of 0 to 1 in each region: [H, W, M] -> [R, M bins], rows that sum to 1."""
    count, regions = int(labels.max()) + 1, labels.ravel()
    found = []
    for each in np.moveaxis(maps, 2, 0):
        cell = np.minimum((each.ravel() * bins).astype(np.int64), bins - 1)
        found.append(np.bincount(regions * bins + cell, minlength=count * bins).reshape(count, bins))
    histograms = np.concatenate(found, axis=1).astype(float)
    return np.asarray(histograms / histograms.sum(axis=1, keepdims=True))


def _boxes(labels: NDArray[np.int64]) -> Ints:
    count = int(labels.max()) + 1
    height, width = labels.shape
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = (height, width), 0
    rows, columns = np.indices(labels.shape)
    for side, place in enumerate((rows, columns)):
        np.minimum.at(boxes[:, side], labels.ravel(), place.ravel())
        np.maximum.at(boxes[:, 2 + side], labels.ravel(), place.ravel() + 1)
    return boxes


def _intensity(rgb: Floats) -> Floats:
    return np.asarray(rgb.mean(axis=2, keepdims=True))


def _normalised(rgb: Floats) -> Floats:
    """Each channel as a share of all three; black is grey."""
    total = rgb.sum(axis=2, keepdims=True)
    return np.asarray(np.where(total > 0, rgb / np.where(total > 0, total, 1), 1 / 3))


def _lab(rgb: Floats) -> Floats:
    lab: Floats = rgb2lab(rgb)
    return np.clip((lab + (0, 128, 128)) / (100, 255, 255), 0, 1)


def _opponent(rgb: Floats) -> Floats:
    """Red against green and yellow against blue, each divided by the intensity."""
    red, green, blue = np.moveaxis(rgb, 2, 0)
    grey = (red + green + blue) / np.sqrt(3)
    both = np.stack([(red - green) / np.sqrt(2), (red + green - 2 * blue) / np.sqrt(6)], axis=2)
    ratios = np.where(grey[..., None] > 0, both / np.where(grey > 0, grey, 1)[..., None], 0)
    lowest, highest = (-np.sqrt(1.5), -np.sqrt(2)), (np.sqrt(1.5), np.sqrt(0.5))
    return np.asarray(np.clip((ratios - lowest) / np.subtract(highest, lowest), 0, 1))


# RGB of 0 to 1 [H, W, 3] -> channels of 0 to 1 [H, W, C]: the paper's Table 1
COLOUR_SPACES: dict[str, Callable[[Floats], Floats]] = {
    "rgb": lambda rgb: rgb,
    "i": _intensity,
    "lab": _lab,
    "rgi": lambda rgb: np.concatenate([_normalised(rgb)[..., :2], _intensity(rgb)], axis=2),
    "hsv": rgb2hsv,
    "normalised_rgb": _normalised,
    "c": _opponent,
    "h": lambda rgb: np.asarray(rgb2hsv(rgb))[..., :1],
}


def load(config: Config) -> SelectiveSearch:
    return SelectiveSearch(config)
