"""Describes the miniature data sets in recipes: pairs, photographs with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.data.labelled.dense import DenseAugmentation, Relabelling
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.loader import Source
from lexiseg.data.mini.masked import Part, read_masked
from lexiseg.data.mini.pairs import Mini, MiniPairs
from lexiseg.data.opening import Opening, Workers, folder
from lexiseg.data.pairs.descriptions import Captions, computed_maps
from lexiseg.data.pairs.superpixel_maps import Superpixels
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import UnknownName
from lexiseg.vocabulary import Vocabulary

__all__ = ["MaskedData", "MiniData"]

_MINI, _AUGMENTATION = Mini(), PairAugmentation(size=128)
_DENSE = DenseAugmentation(crop=(128, 128), scale=(512, 128))
_ONE_WORKER = Workers(number=1)
_CAPTIONS = Captions()


@dataclass(frozen=True)
class MiniData(Opening):
    """The miniature pair set.

    root: the folder with `photos-train` and `masks-train`. cache: see `MiniPairs`. superpixels: as in `PairData`.
    """

    root: str
    cache: str | None = None
    pairs: Mini = _MINI
    augmentation: PairAugmentation = _AUGMENTATION
    captions: Captions = _CAPTIONS
    superpixels: Superpixels | None = None
    workers: Workers = _ONE_WORKER

    def source(self) -> Source:
        pairs = MiniPairs(folder(self.root), self.pairs, cache=None if self.cache is None else Path(self.cache))
        return self.captions.apply(pairs, self.augmentation, computed_maps(self.superpixels))


@dataclass(frozen=True)
class MaskedData(Opening):
    """The photographs of `masks-train` with label maps.

    root: the folder with `masks-train`; cache: a folder for the decoded photographs.
    part, shards, occurring: as in `masked.read_masked`.
    hidden, suppressed: classes, by name, that become ignored or UNLABELLED; suppressed=("*",) stands for all.
    label_free: every pixel is UNLABELLED, ignored ones too, and no label map is looked at.
    pseudo_labels: fill UNLABELLED pixels from the label maps of a `Labelling`: its folder, or "@NAME" of the stage.
    """

    root: str
    cache: str | None = None
    part: Part = "train"
    shards: tuple[str, ...] = ()
    occurring: bool = True
    hidden: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    label_free: bool = False
    pseudo_labels: str | None = None
    augmentation: DenseAugmentation = _DENSE
    workers: Workers = _ONE_WORKER

    def source(self) -> Source:
        cache = None if self.cache is None else Path(self.cache)
        place = folder(self.root) / "masks-train"
        masked = read_masked(place, part=self.part, shards=self.shards, occurring=self.occurring, cache=cache)
        names = [kind.names[0] for kind in masked.classes]
        words = Vocabulary({kind.names[0]: kind.names for kind in masked.classes}, shared_words=True)
        more: dict[str, Any] = {"vocabulary": words, "pseudo_labels": self.pseudo_labels}
        if self.label_free:
            facts = {"shards": masked.hashes}
            return DenseSource((), self.augmentation, unlabelled=masked.photographs, facts=facts, **more)
        return DenseSource(
            masked.photographs,
            self.augmentation,
            relabel=Relabelling(hidden=_places(self.hidden, names), suppressed=_places(self.suppressed, names)),
            facts={"classes": names, "shards": masked.hashes},
            **more,
        )


def _places(chosen: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    if tuple(chosen) == ("*",):
        return tuple(range(len(names)))
    for name in chosen:
        if name not in names:
            raise UnknownName("class", name, names)
    return tuple(names.index(name) for name in chosen)
