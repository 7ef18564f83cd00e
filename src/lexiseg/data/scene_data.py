"""Describes drawn scenes in recipes, with captions or label maps.

They are for tests and tutorials.
"""

from __future__ import annotations

from dataclasses import dataclass

from lexiseg.data.labelled.dense import DenseAugmentation, Relabelling
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.loader import Source
from lexiseg.data.opening import Opening, Workers
from lexiseg.data.pairs.descriptions import Captions, computed_maps
from lexiseg.data.pairs.superpixel_maps import Superpixels
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.data.transforms import PairAugmentation
from lexiseg.vocabulary import Vocabulary

__all__ = ["SceneLabelData", "ScenePairData"]

_SCENES, _AUGMENTATION = Scenes(), PairAugmentation(size=64)
_DENSE, _RELABELLING = DenseAugmentation(crop=(64, 64), scale=(64, 64)), Relabelling()
_WORKERS = Workers()
_CAPTIONS = Captions()


@dataclass(frozen=True)
class ScenePairData(Opening):
    """Drawn scenes with captions, for tests and tutorials; superpixels: as in `PairData`."""

    scenes: Scenes = _SCENES
    augmentation: PairAugmentation = _AUGMENTATION
    captions: Captions = _CAPTIONS
    superpixels: Superpixels | None = None
    workers: Workers = _WORKERS

    def source(self) -> Source:
        return self.captions.apply(self.scenes, self.augmentation, computed_maps(self.superpixels))


@dataclass(frozen=True)
class SceneLabelData(Opening):
    """Drawn scenes with label maps over `scenes.class_names()`.

    relabelling: hides or suppresses classes.
    pseudo_labels: as in `BenchmarkData`.
    """

    scenes: Scenes = _SCENES
    augmentation: DenseAugmentation = _DENSE
    relabelling: Relabelling = _RELABELLING
    pseudo_labels: str | None = None
    workers: Workers = _WORKERS

    def source(self) -> Source:
        return DenseSource(
            self.scenes.samples(),
            self.augmentation,
            relabel=self.relabelling,
            facts=self.scenes.manifest(),
            vocabulary=Vocabulary(class_names()),
            pseudo_labels=self.pseudo_labels,
        )
