"""Holds the masks of one photograph without words.

`Predictor.regions` gives those of a model, `Proposing.regions` those of a proposer (`proposals/`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from lexiseg import catalog, settings
from lexiseg.data.photographs import ImageSource
from lexiseg.errors import OutputError, SettingError
from lexiseg.formats import coco, label_maps, palette
from lexiseg.inference.labelling import Embedded
from lexiseg.inference.reading import read
from lexiseg.inference.upsample import Size, axes
from lexiseg.proposals._merging import neighbours
from lexiseg.proposals._proposals import Proposals, Proposer
from lexiseg.segmentation import label_dtype
from lexiseg.segmenter import Inference

if TYPE_CHECKING:
    from PIL import Image

    from lexiseg.formats.overlay import Photograph

__all__ = ["Proposing", "Regions", "proposals_of"]

Masks = Iterator[npt.NDArray[np.bool_]]
MOST = int(np.iinfo(np.uint16).max)  # masks, which a label map numbers


@dataclass(frozen=True, eq=False, repr=False)
class Regions:
    """The masks of one photograph, which may overlap and need not cover it.

    labels: the number of a mask at each pixel, from 0 on [H, W]: where several are, of the smallest; where none is,
        `unlabelled`. uint8 for up to 255 masks, uint16 above.
    areas: the fraction of the picture that each mask covers [N], 0-1, also where a smaller one lies over it.
    proposals: the masks themselves, of one picture, on the grid that they were made on.
    seen: (height, width) of the picture that they were made of.
    model: what made them; settings: how, as plain JSON values.
    warnings: a sentence each.
    image: the photograph for `overlay` to draw on; never saved.
    """

    labels: npt.NDArray[np.uint8 | np.uint16]
    areas: npt.NDArray[np.float64]
    proposals: Proposals
    seen: Size
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    image: Photograph | None = None

    @classmethod
    def of(cls, proposals: Proposals, size: Size, seen: Size, **more: Any) -> Regions:
        """The valid masks of one picture at the photograph's `size`.

        A pixel is in a mask whose weight there is above 1/2. One that is in no such mask, but between several whose
        weights add up to 1/2, counts as the strongest one's in the label map.

        Raises `SettingError` for more masks than a label map can number.
        """
        valid = proposals.valid[0]
        own = Proposals(proposals.masks[:1, valid].cpu(), valid[valid][None].cpu(), proposals.covers)
        count = int(valid.sum())
        if count >= MOST:
            raise SettingError(f"there are {count:,} masks, and a label map numbers {MOST - 1:,}; make fewer")
        dtype = label_dtype(count)
        none = int(np.iinfo(dtype).max)
        labels, between = np.full(size, none, dtype), np.full(size, none, dtype)
        best, total = np.zeros(size, np.float32), np.zeros(size, np.float32)
        areas = np.zeros(count)
        each = _weights(own, size, seen)
        for number in (-(own.masks[0] > 0).flatten(1).sum(1)).argsort(stable=True).tolist():  # the largest first
            weight = each(number)
            inside = weight > 0.5
            areas[number] = np.count_nonzero(inside) / labels.size
            labels[inside] = number
            stronger = weight > best
            between[stronger], best[stronger] = number, weight[stronger]
            total += weight
        labels = np.where((labels == none) & (total >= 0.5), between, labels)
        return cls(labels, areas, own, seen, **more)

    def __len__(self) -> int:
        """How many masks there are."""
        return len(self.areas)

    def __repr__(self) -> str:
        height, width = self.size
        model = f", {self.model}" if self.model else ""
        return f"Regions({width}x{height} pixels, {len(self)} masks{model}: unlabelled {self.unlabelled_area:.1%})"

    @property
    def size(self) -> Size:
        """(height, width) of the photograph."""
        height, width = self.labels.shape
        return height, width

    @property
    def unlabelled(self) -> int:
        """The label of pixels that are in no mask: 255, or 65535 above 255 masks."""
        return int(np.iinfo(self.labels.dtype).max)

    @property
    def unlabelled_area(self) -> float:
        """The fraction of the picture that is in no mask, 0-1."""
        return float(np.count_nonzero(self.labels == self.unlabelled) / self.labels.size)

    @functools.cached_property
    def colours(self) -> npt.NDArray[np.uint8]:
        """The colour of each mask [N, 3], sRGB 0-255: those that touch differ as much as can be."""
        return _colours(self.labels, len(self))

    def masks(self) -> Masks:
        """Where each mask is [H, W], one after the other, whole where a smaller one lies over it."""
        each = _weights(self.proposals, self.size, self.seen)
        return (each(number) > 0.5 for number in range(len(self)))

    def overlay(self, image: Photograph | None = None, *, alpha: float = 0.6) -> Image.Image:
        """The label map over the photograph, each mask in a colour of its own, with lines between them.

        image, alpha: as for `Segmentation.overlay`. Pixels that are in no mask are grey and striped.
        """
        from lexiseg.formats import overlay, painting

        if not 0 <= alpha <= 1:
            raise SettingError(f"alpha is {alpha}; give a number from 0 to 1")
        given = self.image if image is None else image
        photograph = None if given is None else overlay.read(given, size=self.size)
        rows = self.colours.tolist()
        colours = {int(label): tuple(rows[label]) for label in np.unique(self.labels) if label != self.unlabelled}
        return painting.paint(photograph, self.labels, colours, alpha=alpha)

    def to_coco(self, file_name: str) -> dict[str, Any]:
        """All masks as a COCO data set of one image with compressed run lengths, of one category, "region"."""
        found = [coco.annotation(mask, 0, "region") for mask in self.masks()]
        return coco.data_set(found, ["region"], self.size, file_name)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels: what stands beside a saved label map."""
        rows = enumerate(zip(self.colours, self.areas.tolist(), strict=True))
        return {
            "model": self.model,
            "settings": dict(self.settings),
            "size": list(self.size),
            "regions": [{"label": label, "colour": _hex(colour), "area": area} for label, (colour, area) in rows],
            "unlabelled": {
                "label": self.unlabelled,
                "colour": _hex(np.array(palette.UNLABELLED, np.uint8)),
                "area": self.unlabelled_area,
            },
            "warnings": list(self.warnings),
        }

    def save(self, path: str | os.PathLike[str], *, grey: bool = False, made_with: str = "") -> None:
        """Writes a file that `lexiseg segment --masks` and `lexiseg oracle` read, and any other program.

        "x.png": the label map, where the smallest mask lies on top, and the facts in "x.json" beside it. It has a
            palette of the masks' colours; above 255 masks, or with `grey`, it is grey.
        "x.npz": all masks whole, "masks" [N, H, W], compressed.

        Raises `OutputError` as `Segmentation.save` does.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".png":
                few = self.labels.dtype == np.uint8 and not grey
                table = np.full((256, 3), palette.UNLABELLED, np.uint8) if few else None
                if table is not None:
                    table[: len(self)] = self.colours
                label_maps.write_png(path, self.labels, self.to_json(), table, made_with=made_with)
            case ".npz":
                masks = np.stack([*self.masks()]) if len(self) else np.zeros((0, *self.size), bool)
                label_maps.write_masks(path, masks, self.to_json(), made_with=made_with)
            case suffix:
                raise OutputError(f"regions are saved as .png or .npz, not {suffix!r}; rename {path}")


@dataclass(frozen=True, eq=False)
class Proposing:
    """A proposer of `proposals/` with all that surrounds it."""

    name: str
    config: Any
    proposer: Proposer

    @classmethod
    def load(cls, name: str, changes: Mapping[str, Any] | None = None) -> Proposing:
        """Raises `UnknownName` for a proposer or a setting that does not exist, `SettingError` for a wrong value."""
        module = catalog.get("proposals", name)
        config = settings.change(module.Config(), changes or {})
        return cls(name, config, module.load(config))

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the masks beside the photograph, as plain JSON values."""
        return {"model": self.name, "config": settings.to_json(self.config)}

    def regions(self, image: ImageSource, *, keep_image: bool = True) -> Regions:
        """The masks of a photograph; raises `ImageError` for one that cannot be read."""
        picture = read(image, Inference(), keep_image=keep_image)
        proposals = self.proposer.propose(picture.pixels[None])
        return Regions.of(
            proposals, picture.size, picture.resized, model=self.name, settings=self.settings, warnings=picture.notes,
            image=picture.image,
        )  # fmt: skip


def proposals_of(embedded: Embedded, name: str) -> Proposals:
    """The masks of a photograph that a model with the trait `regions` has embedded, of what the network saw.

    Raises `SettingError` for a photograph that was seen in several windows, whose masks do not fit together.
    """
    views = list(embedded.views)
    if len(views) > 1:
        raise SettingError(f"{name} looks at {embedded.name} in {len(views)} windows; set window=none")
    embedding: Any = views[0][1]
    found: Proposals = embedding.proposals
    return found


def _weights(proposals: Proposals, size: Size, seen: Size) -> Callable[[int], npt.NDArray[np.float32]]:
    """A function that gives the weights of a mask at the photograph's size, 0-1 [H, W]; they are interpolated."""
    grid = (proposals.masks.shape[2], proposals.masks.shape[3])
    rows, columns = axes(grid, size, covers=proposals.covers, seen=seen)

    def weights(number: int) -> npt.NDArray[np.float32]:
        one = proposals.masks[0, number][None].float().sigmoid()
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = columns.along_rows(rows.upsample(one))[0].numpy()
        return found

    return weights


def _colours(labels: npt.NDArray[np.uint8 | np.uint16], count: int) -> npt.NDArray[np.uint8]:
    """Rows of the palette: for each mask in turn the one that differs most from those of its neighbours.

    Of rows that differ as much, the one that was taken least.
    """
    none = int(np.iinfo(labels.dtype).max)
    around: list[list[int]] = [[] for _ in range(count)]
    numbers, places = np.unique(labels, return_inverse=True)
    for pair in neighbours(places.reshape(labels.shape)):
        one, other = (int(number) for number in numbers[pair])
        if none not in (one, other):
            around[one].append(other)
            around[other].append(one)
    apart = palette.differences()
    taken = np.zeros(len(palette.TABLE), np.int64)
    rows = np.full(count, -1)
    for number in range(count):
        beside = [row for row in rows[around[number]] if row >= 0]
        nearest = apart[:, beside].min(axis=1).clip(max=palette.ALIKE) if beside else np.full(len(taken), palette.ALIKE)
        rows[number] = np.lexsort((taken, -nearest))[0]
        taken[rows[number]] += 1
    return np.asarray(palette.TABLE[rows])


def _hex(colour: npt.NDArray[np.uint8]) -> str:
    return "#" + colour.tobytes().hex()
