"""Cuts single classes out of photographs as training samples.

A sample is a part of the class's box, and which of its pixels show the class.

ZSSeg learns its prompts from them (zsseg_fcn.md §7.2). Letters: H W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lexiseg.data.geometry import Box, Geometry
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.loader import Source
from lexiseg.data.opening import Opening, Workers
from lexiseg.data.transforms import crop_box, to_tensor
from lexiseg.errors import BadSample, DataError, ImageError, SettingError

__all__ = ["RegionAugmentation", "RegionData", "Regions", "box_of"]

TRIES = 10  # crops that may miss the class

_WORKERS = Workers()


@dataclass(frozen=True)
class RegionAugmentation:
    """A part of a class's box, at one size, mirrored or not.

    size: (height, width) in pixels. The released code has 244 x 224, a slip of the pen (§7.2).
    area, ratio: of the part; a share of the box's area, and width over height.
    flip: probability of a mirror image.
    short_boxes: boxes that reach the right or lower border end a pixel before it, as released.

    A part that misses the class is drawn again, up to ten times; then the whole box is taken.
    """

    size: tuple[int, int] = (224, 224)
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    short_boxes: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise SettingError(f"size is {self.size}; give two numbers of 1 or more (pixels)")

    def __call__(
        self, image: NDArray[np.uint8], inside: NDArray[np.bool_], random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB [H, W, 3] and the class's pixels [H, W], some of them true, as uint8 [3, h, w] and bool [h, w].

        Raises `BadSample` where none of the class's pixels is left at this size.
        """
        whole = box_of(inside, short=self.short_boxes)
        drawn = (self.draw(whole, random) for _ in range(TRIES))
        for geometry in itertools.chain(drawn, [Geometry(whole, self.size)]):
            mask = geometry.map(inside)
            if mask.any():
                picture = geometry.picture(Image.fromarray(image))
                return to_tensor(picture), torch.from_numpy(mask.copy())
        few, size = int(inside.sum()), "x".join(map(str, self.size))
        raise BadSample("no pixel left", f"none of the {few} pixels of a class is left in its box at {size}")

    def draw(self, box: Box, random: np.random.Generator) -> Geometry:
        """Which part of a box to show."""
        left, top, right, bottom = box
        part = crop_box(right - left, bottom - top, random, area=self.area, ratio=self.ratio)
        moved = left + part[0], top + part[1], left + part[2], top + part[3]
        return Geometry(moved, self.size, mirror=random.random() < self.flip)


def box_of(inside: NDArray[np.bool_], *, short: bool = False) -> Box:
    """The tight box around true pixels of [H, W], of which there are some: left, top, right, bottom, ends not included.

    short: a box that reaches the right or lower border ends a pixel before it, if that leaves one.
    """
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if short:
        right = max(left + 1, min(right, inside.shape[1] - 1))
        bottom = max(top + 1, min(bottom, inside.shape[0] - 1))
    return left, top, right, bottom


class Regions:
    """Samples {"key", "image", "masks", "labels"}: a photograph and one class that it shows, for a `Loader`.

    source: photographs with label maps; what is ignored or UNLABELLED there belongs to no class.
    per_class: so many photographs of each class, drawn with replacement; None: every class of every photograph once.
    draw: decides which are drawn.

    Reads every label map once, to know which classes are where: for COCO's 118,000 that takes minutes.
    Raises `DataError` where no pixel has a label.
    """

    def __init__(
        self, source: DenseSource, augment: RegionAugmentation, *, per_class: int | None = None, draw: int = 0
    ) -> None:
        self._source, self._augment, self._per_class, self._draw = source, augment, per_class, draw
        self._items = _items(_where(source), per_class, draw)
        if not self._items:
            raise DataError("no photograph has a labelled pixel, so there are no regions to learn from; check the data")

    @property
    def blocks(self) -> Sequence[int]:
        return [len(self._items)]

    def key(self, index: int) -> str:
        photograph, place = self._items[index]
        classes = self._source.classes
        return f"{self._source.key(photograph)}#{classes[place] if classes else place}"

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        photograph, place = self._items[index]
        try:
            image, labels = self._source.read(photograph)
        except BadSample:
            raise
        except (DataError, ImageError) as error:
            raise BadSample("unreadable sample", str(error)) from error
        inside = labels == place
        if not inside.any():
            raise BadSample("changed since it was opened", f"no pixel of {self.key(index)} is left")
        pixels, mask = self._augment(image, inside, random)
        return {"key": self.key(index), "image": pixels, "masks": mask, "labels": torch.tensor(place)}

    def manifest(self) -> dict[str, Any]:
        return {
            "kind": "regions",
            "regions": len(self._items),
            "per_class": self._per_class,
            "draw": self._draw,
            "source": self._source.manifest(),
        }


@dataclass(frozen=True)
class RegionData(Opening):
    """Crops of single classes of photographs with label maps.

    labelled: the photographs, as any description of label maps gives them; its own augmentation is not used.
    per_class, draw: as in `Regions`.
    """

    labelled: Opening
    augmentation: RegionAugmentation = RegionAugmentation()
    per_class: int | None = None
    draw: int = 0
    workers: Workers = _WORKERS

    def __post_init__(self) -> None:
        if self.per_class is not None and self.per_class < 1:
            raise SettingError(f"per_class is {self.per_class}; give a number of photographs, or none for all")

    def source(self) -> Source:
        labelled = self.labelled.source()
        if not isinstance(labelled, DenseSource):
            raise SettingError(
                f"regions are cut out by label maps, which {type(self.labelled).__name__} lacks; "
                "give a benchmark's data, or photographs with label maps"
            )
        return Regions(labelled, self.augmentation, per_class=self.per_class, draw=self.draw)


def _where(source: DenseSource) -> list[list[int]]:
    """The classes in each photograph, in ascending order; none where it cannot be read."""
    indices = range(sum(source.blocks))
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda index: _classes(source, index), indices))


def _classes(source: DenseSource, index: int) -> list[int]:
    try:
        labels = source.labels(index)
    except (DataError, ImageError):
        return []
    found: list[int] = np.unique(labels[(labels >= 0) & (labels != source.relabel.ignore)]).tolist()
    return found


def _items(where: Sequence[Sequence[int]], per_class: int | None, draw: int) -> list[tuple[int, int]]:
    """(photograph, class)."""
    if per_class is None:
        return [(photograph, place) for photograph, classes in enumerate(where) for place in classes]
    showing: dict[int, list[int]] = {}
    for photograph, classes in enumerate(where):
        for place in classes:
            showing.setdefault(place, []).append(photograph)
    random = np.random.default_rng(draw)
    return [
        (int(photograph), place)
        for place in sorted(showing)
        for photograph in random.choice(showing[place], size=per_class, replace=True)
    ]
