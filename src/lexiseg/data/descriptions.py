"""What a recipe says about its data: frozen values that name the place and the augmentation, and open as a `Loader`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lexiseg.data.captions import WordPieceNoise, word_prompts
from lexiseg.data.dense import DenseAugmentation, DenseSource, Relabelling
from lexiseg.data.images import IMAGE_SUFFIXES, read_rgb
from lexiseg.data.loader import Loader, Source
from lexiseg.data.masked import Part, read_masked
from lexiseg.data.mini import Mini, MiniPairs
from lexiseg.data.pair_readers import Column, open_pairs
from lexiseg.data.pairs import Concatenated, Pairs, PairSource
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import DataError, SettingError, UnknownName

__all__ = [
    "Captions",
    "MaskedData",
    "MiniData",
    "Opening",
    "PairData",
    "PhotographData",
    "SceneLabelData",
    "ScenePairData",
    "Workers",
]


# what the values below have unless a recipe says otherwise
_AUGMENTATION = PairAugmentation()
_MINI, _MINI_AUGMENTATION = Mini(), PairAugmentation(size=128)
_SCENES, _SCENE_AUGMENTATION = Scenes(), PairAugmentation(size=64)
_DENSE, _RELABELLING = DenseAugmentation(), Relabelling()
_MASKED_DENSE = DenseAugmentation(crop=(128, 128), scale=(512, 128))
_SCENE_DENSE = DenseAugmentation(crop=(64, 64), scale=(64, 64))


@dataclass(frozen=True)
class Workers:
    """Who prepares batches beside the training process; see `Loader`."""

    number: int = 0
    kind: Literal["processes", "threads"] = "processes"


class Opening(ABC):
    """What the descriptions share: the trainer opens them all alike."""

    workers: Workers

    @abstractmethod
    def source(self) -> Source:
        """The samples; raises `DataError` where they are missing."""

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> Loader:
        """Batches of `batch_size` samples for each process; raises `DataError` where the data is missing."""
        return Loader(
            self.source(),
            batch_size=batch_size,
            seed=seed,
            workers=self.workers.number,
            kind=self.workers.kind,
            max_bad_fraction=max_bad_fraction,
        )


@dataclass(frozen=True)
class Captions:
    """What is done to captions.

    tokenizer: hub id or folder of a WordPiece tokenizer, which turns on SimSeg's noise.
    prompts: how many sentences of nouns and verbs each pair gets beside its caption (GroupViT: 3).
    templates: what those sentences look like, {} being the word.
    """

    tokenizer: str | None = None
    prompts: int = 0
    templates: tuple[str, ...] = ("a photo of a {}.",)

    def apply(self, pairs: Pairs, augmentation: PairAugmentation) -> PairSource:
        """Raises `SettingError` for a tokenizer that cannot be had or is not WordPiece."""
        return PairSource(
            pairs,
            augmentation,
            caption=None if self.tokenizer is None else self._noise(self.tokenizer),
            prompts=partial(word_prompts, templates=self.templates, count=self.prompts) if self.prompts else None,
        )

    def _noise(self, name: str) -> WordPieceNoise:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # of many kinds: no such id, no network, broken files
            raise SettingError(
                f"captions.tokenizer {name} cannot be loaded: {error}; give a hub id or folder"
            ) from error
        if tokenizer.mask_token is None:
            raise SettingError(
                f"captions.tokenizer {name} has no mask token; caption noise needs a WordPiece tokenizer"
            )
        return WordPieceNoise(tokenizer)


@dataclass(frozen=True)
class PairData(Opening):
    """Image-text pairs in shards, folders, lists or on the hub; `places` are read by `pair_readers.open_pairs`."""

    places: tuple[str, ...]
    images: str | None = None  # the folder that the paths in lists are relative to
    image_column: Column | None = None
    caption_column: Column | None = None
    each_caption: bool = False  # of COCO JSONs: a pair for each caption, not for each picture
    augmentation: PairAugmentation = _AUGMENTATION
    captions: Captions = Captions()
    workers: Workers = Workers()

    def source(self) -> Source:
        if not self.places:
            raise DataError("data.places is empty; name a folder, shards, a list or hub:NAME")
        how: dict[str, Any] = {
            "images": self.images,
            "image_column": self.image_column,
            "caption_column": self.caption_column,
            "each_caption": self.each_caption,
        }
        parts = [open_pairs(place, **how) for place in self.places]
        return self.captions.apply(parts[0] if len(parts) == 1 else Concatenated(parts), self.augmentation)


@dataclass(frozen=True)
class MiniData(Opening):
    """The miniature pair set. root: the folder with `photos-train` and `masks-train`; cache: see `MiniPairs`."""

    root: str
    cache: str | None = None
    pairs: Mini = _MINI
    augmentation: PairAugmentation = _MINI_AUGMENTATION
    captions: Captions = Captions()
    workers: Workers = Workers(number=1)

    def source(self) -> Source:
        pairs = MiniPairs(_folder(self.root), self.pairs, cache=None if self.cache is None else Path(self.cache))
        return self.captions.apply(pairs, self.augmentation)


@dataclass(frozen=True)
class ScenePairData(Opening):
    """Drawn scenes with captions, for tests and tutorials."""

    scenes: Scenes = _SCENES
    augmentation: PairAugmentation = _SCENE_AUGMENTATION
    captions: Captions = Captions()
    workers: Workers = Workers()

    def source(self) -> Source:
        return self.captions.apply(self.scenes, self.augmentation)


@dataclass(frozen=True)
class SceneLabelData(Opening):
    """Drawn scenes with label maps over `scenes.class_names()`. `relabelling` hides or suppresses classes."""

    scenes: Scenes = _SCENES
    augmentation: DenseAugmentation = _SCENE_DENSE
    relabelling: Relabelling = _RELABELLING
    workers: Workers = Workers()

    def source(self) -> Source:
        return DenseSource(
            self.scenes.samples(), self.augmentation, relabel=self.relabelling, facts=self.scenes.manifest()
        )


@dataclass(frozen=True)
class MaskedData(Opening):
    """The photographs of `masks-train` with label maps.

    root: the folder with `masks-train`; cache: a folder for the decoded photographs.
    part, shards, occurring: as in `masked.read_masked`.
    hidden, suppressed: classes, by name, that become ignored or UNLABELLED; suppressed=("*",) stands for all.
    label_free: every pixel is UNLABELLED, ignored ones too, and no label map is looked at.
    """

    root: str
    cache: str | None = None
    part: Part = "train"
    shards: tuple[str, ...] = ()
    occurring: bool = True
    hidden: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    label_free: bool = False
    augmentation: DenseAugmentation = _MASKED_DENSE
    workers: Workers = Workers(number=1)

    def source(self) -> Source:
        cache = None if self.cache is None else Path(self.cache)
        folder = _folder(self.root) / "masks-train"
        masked = read_masked(folder, part=self.part, shards=self.shards, occurring=self.occurring, cache=cache)
        names = [kind.names[0] for kind in masked.classes]
        if self.label_free:
            facts = {"shards": masked.hashes}
            return DenseSource((), self.augmentation, unlabelled=masked.photographs, facts=facts)
        return DenseSource(
            masked.photographs,
            self.augmentation,
            relabel=Relabelling(hidden=_places(self.hidden, names), suppressed=_places(self.suppressed, names)),
            facts={"classes": names, "shards": masked.hashes},
        )


@dataclass(frozen=True)
class PhotographData(Opening):
    """Photographs without labels, every file below some folders: their label maps are UNLABELLED everywhere."""

    places: tuple[str, ...]
    augmentation: DenseAugmentation = _DENSE
    workers: Workers = Workers()

    def source(self) -> Source:
        pictures = [_Photograph(path) for place in self.places for path in _photographs(_folder(place))]
        return DenseSource((), self.augmentation, unlabelled=pictures)


@dataclass(frozen=True)
class _Photograph:
    path: Path

    @property
    def key(self) -> str:
        return str(self.path)

    def image(self) -> NDArray[np.uint8]:
        return np.asarray(read_rgb(self.path))


def _folder(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; give the one with the photographs")
    return path


def _photographs(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"{folder} holds no pictures; they end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def _places(chosen: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    if tuple(chosen) == ("*",):
        return tuple(range(len(names)))
    for name in chosen:
        if name not in names:
            raise UnknownName("class", name, names)
    return tuple(names.index(name) for name in chosen)
