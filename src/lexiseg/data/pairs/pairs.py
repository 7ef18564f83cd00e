"""Turns image-text pairs into training samples.

It also says what a set of them is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lexiseg.data.geometry import Geometry
from lexiseg.data.pairs.captions import clean
from lexiseg.data.pairs.maps import MapSource
from lexiseg.errors import BadSample

__all__ = ["CaptionTransform", "Concatenated", "PairSource", "Pairs", "locate"]

CaptionTransform = Callable[[str, np.random.Generator], str]
Prompts = Callable[[str, np.random.Generator], list[str]]


class Pairs(Protocol):
    """A set of pictures with one or more captions each; the readers are in `pair_readers`, `mini` and `scenes`."""

    @property
    def blocks(self) -> Sequence[int]:
        """Pairs in each part that is cheap to read together; their sum is the number of pairs."""
        ...

    def key(self, index: int) -> str: ...

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        """An RGB picture and its captions as they are stored; raises `BadSample` where one of them is unusable."""
        ...

    def manifest(self) -> dict[str, Any]: ...


class Augmentation(Protocol):
    """What `PairAugmentation` offers: where a picture is cropped is known before it is made."""

    def draw(self, image: Image.Image, random: np.random.Generator) -> Geometry: ...

    def picture(self, image: Image.Image, geometry: Geometry, random: np.random.Generator) -> Tensor: ...


class PairSource:
    """Pairs as training samples {"key", "image", "text"}, for a `Loader`.

    augment: what happens to the picture, for example a `PairAugmentation`.
    caption: applied to the one caption that is drawn, for example `WordPieceNoise`.
    prompts: adds the field "prompts", sentences made of the drawn caption; for example `word_prompts`.
    maps: adds fields of these names, maps int32 [H, W] that are cropped with the picture; for example "superpixels".
    """

    def __init__(
        self,
        pairs: Pairs,
        augment: Augmentation,
        *,
        caption: CaptionTransform | None = None,
        prompts: Prompts | None = None,
        maps: Mapping[str, MapSource] = MappingProxyType({}),
    ) -> None:
        self._pairs, self._augment, self._caption, self._prompts = pairs, augment, caption, prompts
        self._maps = dict(maps)

    @property
    def blocks(self) -> Sequence[int]:
        return self._pairs.blocks

    def key(self, index: int) -> str:
        return self._pairs.key(index)

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        image, captions = self._pairs.read(index)
        usable = [text for text in map(clean, captions) if text]
        if not usable:
            raise BadSample("empty caption")
        text = usable[int(random.integers(len(usable)))]
        geometry = self._augment.draw(image, random)
        sample: dict[str, Any] = {
            "key": self.key(index),
            "image": self._augment.picture(image, geometry, random),
            **{name: self._map(source, index, image, geometry) for name, source in self._maps.items()},
        }
        if self._prompts is not None:
            sample["prompts"] = self._prompts(text, random)
        sample["text"] = text if self._caption is None else self._caption(text, random)
        return sample

    def manifest(self) -> dict[str, Any]:
        maps = {name: source.manifest() for name, source in self._maps.items()}
        return {**self._pairs.manifest(), "maps": maps} if maps else self._pairs.manifest()

    def _map(self, source: MapSource, index: int, image: Image.Image, geometry: Geometry) -> NDArray[np.int32]:
        whole = source.map(self.key(index), image)
        if whole.shape != (image.height, image.width):
            raise BadSample("sizes differ", f"picture {image.height}x{image.width}, map {whole.shape}")
        return geometry.map(whole).astype(np.int32)


class Concatenated:
    """Several sets of pairs as one, for example CC3M and CC12M."""

    def __init__(self, parts: Sequence[Pairs]) -> None:
        self._parts = list(parts)
        self._ends = list(accumulate(sum(part.blocks) for part in self._parts))

    @property
    def blocks(self) -> Sequence[int]:
        return [length for part in self._parts for length in part.blocks]

    def key(self, index: int) -> str:
        at, within = locate(self._ends, index)
        return self._parts[at].key(within)

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        at, within = locate(self._ends, index)
        return self._parts[at].read(within)

    def manifest(self) -> dict[str, Any]:
        return {"parts": [part.manifest() for part in self._parts]}


def locate(ends: Sequence[int], index: int) -> tuple[int, int]:
    """The part that holds an index, and the index within it; `ends` are the running sums of the parts' lengths."""
    at = bisect_right(ends, index)
    return at, index - (ends[at - 1] if at else 0)
