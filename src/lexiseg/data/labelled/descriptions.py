"""Describes folders of photographs without labels in a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lexiseg.data.labelled.dense import DenseAugmentation
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.loader import Source
from lexiseg.data.opening import Opening, Workers, folder
from lexiseg.data.storage.images import pictures_below, read_rgb

__all__ = ["PhotographData"]

_DENSE = DenseAugmentation()
_WORKERS = Workers()


@dataclass(frozen=True)
class PhotographData(Opening):
    """Photographs without labels, every file below some folders: their label maps are UNLABELLED everywhere."""

    places: tuple[str, ...]
    augmentation: DenseAugmentation = _DENSE
    workers: Workers = _WORKERS

    def source(self) -> Source:
        pictures = [_Photograph(path) for place in self.places for path in pictures_below(folder(place))]
        return DenseSource((), self.augmentation, unlabelled=pictures)


@dataclass(frozen=True)
class _Photograph:
    path: Path

    @property
    def key(self) -> str:
        return str(self.path)

    def image(self) -> NDArray[np.uint8]:
        return np.asarray(read_rgb(self.path))
