"""Crops masked photographs for training the embedded CLIP.

Beside each crop are photographs of which only the name is known.

A sample of S pixels has, for places of 8 pixels [s, s], s = S / 8:

    image      uint8 [3, S, S], grey past the photograph's edges
    labels     concept at a random pixel of each place [s, s]; -1 where not known, -2 where none of `things` is
    exclusive  the concepts of which only one can be right in this photograph: those that its annotators told apart [C]
    things     the concepts that are nowhere where a label is -2 [C]
    sheets     uint8 [K, 3, T, T], photographs of one concept each
    named      those concepts [K]

Photographs with rare classes come more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lexiseg.data.mini.concepts import Concepts
from lexiseg.data.mini.masked import IGNORE, LAST_THING, THINGS_ALONE, MaskedPhotograph, held_out, read_masked
from lexiseg.data.mini.meanings import read_words
from lexiseg.data.mini.sheets import read_sheets
from lexiseg.data.opening import Opening, Workers
from lexiseg.data.scenes import Scenes, class_names

__all__ = ["ABSENT", "PLACE", "UNKNOWN", "ConceptCrops", "CropSource", "Crops", "SceneCrops"]

UNKNOWN, ABSENT = -1, -2
PLACE = 8  # pixels
GREY = 127
SAMPLES = 1_000_000

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Crops:
    """How photographs are cropped and spoilt.

    size: the side of a crop, pixels.
    sides: the short side a photograph is scaled to, from and to, pixels.
    sheets: photographs of one concept beside each crop.
    sheet_size: their side, pixels.
    spoilt: the share of the crops and sheets in other light, 0-1.
    blur, noisy: of these, the share that is blurred, and that is noisy, 0-1.
    noise: the largest standard deviation of noise, in levels of 255.
    jitter: how much contrast, colour and brightness change, 0-1.
    rare: how much more often photographs of rare classes come, the power of 1 / frequency.
    """

    size: int = 320
    sides: tuple[int, int] = (256, 480)
    sheets: int = 2
    sheet_size: int = 160
    spoilt: float = 0.5
    blur: float = 0.2
    noisy: float = 0.5
    noise: float = 40.0
    jitter: float = 0.35
    rare: float = 0.5


@dataclass(frozen=True)
class ConceptCrops(Opening):
    """The samples that this file's description tells.

    root: the folder with `photos-train` and `masks-train`. words: the file of `meanings.prepare`. cache: as in
    `MiniPairs`. everything: also the photographs that candidates are compared on (`kept_aside`).
    """

    root: str
    words: str
    cache: str | None = None
    crops: Crops = field(default_factory=Crops)
    everything: bool = False
    workers: Workers = field(default_factory=Workers)

    def source(self) -> CropSource:
        concepts = read_words(Path(self.words)).concepts
        cache = None if self.cache is None else Path(self.cache)
        return CropSource(Path(self.root), concepts, self.crops, cache=cache, everything=self.everything)


class CropSource:
    """A `loader.Source` of the samples that this file's description tells."""

    def __init__(
        self, root: Path, concepts: Concepts, crops: Crops, *, cache: Path | None, everything: bool = False
    ) -> None:
        self.crops = crops
        found = read_masked(root / "masks-train", part="all", cache=cache)
        chosen = tuple(one for one in found.photographs if everything or not kept_aside(one.key))
        self._masked = replace(found, photographs=chosen)
        self._tiles = read_sheets(root / "photos-train", cache=cache)
        place = {one[0].lower(): at for at, one in reversed(list(enumerate(concepts.names)))}
        self._of_class = np.array([place[kind.names[0].lower()] for kind in self._masked.classes] + [0], np.int64)
        every = place | {name.lower(): at for at, one in reversed(list(enumerate(concepts.names))) for name in one}
        every |= place
        self._of_sheet = np.array([every[sheet.names[0].lower()] for sheet in self._tiles.sheets], np.int64)
        count = len(concepts.names)
        shards = [photograph.key.split("/")[0] for photograph in self._masked.photographs]
        self._shards = shards
        counts = [np.bincount(one.truth().reshape(-1), minlength=IGNORE + 1) for one in self._masked.photographs]
        table = np.stack(counts)[:, : len(self._masked.classes)]
        self._things = np.zeros(count, bool)
        things = [at for at, kind in enumerate(self._masked.classes) if kind.thing and kind.id <= LAST_THING]
        self._things[self._of_class[things]] = True
        self._exclusive = {}
        for shard in sorted(set(shards)):
            rows = [at for at, own in enumerate(shards) if own == shard]
            there = np.zeros(count, bool)
            there[self._of_class[np.flatnonzero(table[rows].sum(axis=0))]] = True
            if "coco" in shard:
                there |= self._things
            self._exclusive[shard] = there
        share = (table > 0).sum(axis=0) / len(table)
        rarest = np.array([share[row > 0].min() if (row > 0).any() else 1.0 for row in table])
        weight = rarest**-crops.rare
        self._ends = np.cumsum(weight / weight.sum())
        sizes = np.sqrt([len(self._tiles.of_sheet(at)) for at in range(len(self._tiles.sheets))])
        self._sheet_ends = np.cumsum(sizes / sizes.sum())

    @property
    def blocks(self) -> Sequence[int]:
        return [SAMPLES]

    def key(self, index: int) -> str:
        return f"crop-{index:06d}"

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        crops = self.crops
        at = _drawn(self._ends, random)
        image, labels = self._crop(self._masked.photographs[at], random)
        things = self._shards[at] == THINGS_ALONE
        sheets, named = [], []
        for _ in range(crops.sheets):
            sheet = _drawn(self._sheet_ends, random)
            photographs = self._tiles.of_sheet(sheet)
            tile = self._tiles.photograph(photographs[int(random.integers(len(photographs)))])
            sheets.append(self._sheet(tile, random))
            named.append(self._of_sheet[sheet])
        known = np.where(
            labels == IGNORE, ABSENT if things else UNKNOWN, self._of_class[labels.clip(max=len(self._of_class) - 1)]
        )
        top, left = random.integers(PLACE, size=2)
        return {
            "key": self.key(index),
            "image": channels_first(image),
            "labels": known[top::PLACE, left::PLACE].astype(np.int64),
            "exclusive": self._exclusive[self._shards[at]],
            "things": self._things,
            "sheets": np.stack([channels_first(one) for one in sheets]) if sheets else np.zeros((0, 3, 1, 1), np.uint8),
            "named": np.array(named, np.int64),
        }

    def manifest(self) -> dict[str, Any]:
        return {"kind": "crops", "shards": self._masked.hashes | self._tiles.hashes}

    def _crop(self, photograph: MaskedPhotograph, random: np.random.Generator) -> tuple[Pixels, Pixels]:
        size, picture, truth = self.crops.size, photograph.image(), photograph.truth()
        height, width = truth.shape
        low, high = self.crops.sides
        scale = low * (high / low) ** random.random() / min(height, width)
        side = size / scale  # of the crop in the photograph
        left, top = (_start(length, side, random) for length in (width, height))
        inside = (max(left, 0.0), max(top, 0.0), min(left + side, width), min(top + side, height))
        x0, y0, x1, y1 = (
            round((edge - start) * scale) for edge, start in zip(inside, (left, top, left, top), strict=True)
        )
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        shape = (x1 - x0, y1 - y0)
        image = Image.fromarray(picture).resize(shape, Image.Resampling.BILINEAR, box=inside, reducing_gap=2.0)
        labels = Image.fromarray(truth).resize(shape, Image.Resampling.NEAREST, box=inside)
        canvas, known = np.full((size, size, 3), GREY, np.uint8), np.full((size, size), IGNORE, np.uint8)
        canvas[y0:y1, x0:x1] = np.asarray(self._spoil(image, random))[: size - y0, : size - x0]
        known[y0:y1, x0:x1] = np.asarray(labels)[: size - y0, : size - x0]
        if random.random() < 0.5:
            canvas, known = canvas[:, ::-1], known[:, ::-1]
        return canvas, known

    def _sheet(self, picture: Pixels, random: np.random.Generator) -> Pixels:
        size = self.crops.sheet_size
        height, width = picture.shape[:2]
        side = random.uniform(0.75, 1.0) * min(height, width)
        left, top = random.uniform(0, width - side), random.uniform(0, height - side)
        image = Image.fromarray(picture).resize(
            (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
        )
        pixels = np.asarray(self._spoil(image, random))
        return pixels[:, ::-1] if random.random() < 0.5 else pixels

    def _spoil(self, image: Image.Image, random: np.random.Generator) -> Pixels:
        crops = self.crops
        if random.random() >= crops.spoilt:
            return np.asarray(image)
        if random.random() < crops.blur:
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.5)))
        pixels = np.asarray(image, np.float32)
        contrast = np.float32(random.uniform(1 - crops.jitter, 1 + crops.jitter))
        shift = 255 * crops.jitter / 2 * (random.uniform(-1, 1) + random.uniform(-0.5, 0.5, 3))
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = grey + (pixels - grey) * np.float32(random.uniform(1 - crops.jitter, 1 + crops.jitter))
        pixels = (pixels - 127.5) * contrast + 127.5 + shift.astype(np.float32)
        if random.random() < crops.noisy:
            pixels = pixels + random.uniform(2, crops.noise) * random.standard_normal(pixels.shape, np.float32)
        return np.asarray(pixels.round().clip(0, 255), np.uint8)


@dataclass(frozen=True)
class SceneCrops(Opening):
    """Drawn scenes, whose classes are the concepts, for tests and the TOY recipe.

    Beside each is the scene once more, named by the class that most of it has.
    """

    scenes: Scenes = field(default_factory=Scenes)
    workers: Workers = field(default_factory=Workers)

    def source(self) -> SceneSource:
        return SceneSource(self.scenes)


class SceneSource:
    """A `loader.Source` of drawn scenes, each in one piece."""

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes

    @property
    def blocks(self) -> Sequence[int]:
        return [self._scenes.count]

    def key(self, index: int) -> str:
        return self._scenes.key(index)

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        scene, count = self._scenes.draw(index), len(class_names())
        labels = scene.labels[PLACE // 2 :: PLACE, PLACE // 2 :: PLACE].astype(np.int64)
        return {
            "key": self.key(index),
            "image": channels_first(scene.image),
            "labels": np.where(labels < count, labels, UNKNOWN),
            "exclusive": np.ones(count, bool),
            "things": np.zeros(count, bool),
            "sheets": channels_first(scene.image)[None],
            "named": np.array([np.bincount(labels[labels < count]).argmax()]),
        }

    def manifest(self) -> dict[str, Any]:
        return self._scenes.manifest()


def kept_aside(key: str) -> bool:
    """Whether candidates are compared on a photograph of `masks-train`: `masked.held_out`, and every fifth of COCO."""
    shard, number = key.split("/")
    return held_out(key) or (shard.startswith("coco") and int(number) % 5 == 4)


def channels_first(image: Pixels) -> Pixels:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _drawn(ends: NDArray[np.float64], random: np.random.Generator) -> int:
    """One of several, by the running sum of how likely each is."""
    return min(int(np.searchsorted(ends, random.random(), side="right")), len(ends) - 1)


def _start(length: int, side: float, random: np.random.Generator) -> float:
    """Where a crop begins: anywhere inside, or before the edge where it is larger than the photograph."""
    low, high = min(0.0, length - side), max(0.0, length - side)
    return float(random.uniform(low, high))
