"""Describes image-text pairs and their captions in recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from lexiseg.data.loader import Source
from lexiseg.data.opening import Opening, Workers
from lexiseg.data.pairs.captions import WordPieceNoise, word_prompts, words_alone
from lexiseg.data.pairs.maps import MapSource, open_maps
from lexiseg.data.pairs.pairs import CaptionTransform, Concatenated, Pairs, PairSource
from lexiseg.data.pairs.readers import Column, open_pairs
from lexiseg.data.pairs.superpixel_maps import Superpixels
from lexiseg.data.transforms import PairAugmentation
from lexiseg.errors import DataError, SettingError

__all__ = ["Captions", "PairData", "computed_maps"]

_AUGMENTATION = PairAugmentation()
_WORKERS = Workers()


@dataclass(frozen=True)
class Captions:
    """What is done to captions.

    tokenizer: hub id or folder of a WordPiece tokenizer, which turns on SimSeg's noise.
    prompts: how many sentences of nouns and verbs each pair gets beside its caption (GroupViT: 3).
    templates: what those sentences look like, {} being the word.
    words: a sentence whose {} becomes the nouns and verbs of a caption, and which takes its place (S-Seg); None leaves
        the caption. Not with a tokenizer.
    """

    tokenizer: str | None = None
    prompts: int = 0
    templates: tuple[str, ...] = ("a photo of a {}.",)
    words: str | None = None

    def __post_init__(self) -> None:
        if self.words is not None and "{}" not in self.words:
            raise SettingError(f"captions.words is {self.words!r}; write {{}} where the caption's words go")
        if self.words is not None and self.tokenizer is not None:
            raise SettingError("captions.words and captions.tokenizer both change the caption; leave one of them out")

    def apply(
        self, pairs: Pairs, augmentation: PairAugmentation, maps: Mapping[str, MapSource] = MappingProxyType({})
    ) -> PairSource:
        """Raises `SettingError` for a tokenizer that cannot be had or is not WordPiece, and for maps with a policy."""
        if maps and augmentation.policy != "none":
            raise SettingError(
                f"augmentation.policy {augmentation.policy} turns pictures, and their maps ({', '.join(maps)}) cannot "
                "follow; leave one of them out"
            )
        return PairSource(
            pairs,
            augmentation,
            caption=self._change(),
            prompts=partial(word_prompts, templates=self.templates, count=self.prompts) if self.prompts else None,
            maps=maps,
        )

    def _change(self) -> CaptionTransform | None:
        if self.words is not None:
            return partial(words_alone, form=self.words)
        return None if self.tokenizer is None else self._noise(self.tokenizer)

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
    """Image-text pairs in shards, folders, lists or on the hub; `places` are read by `readers.open_pairs`.

    maps: by the name of the batch's field, a folder of PNGs or shards whose maps are cropped with the pictures.
    superpixels: make maps of this name of the pictures, in place of stored ones.
    """

    places: tuple[str, ...]
    images: str | None = None  # the folder that the paths in lists are relative to
    image_column: Column | None = None
    caption_column: Column | None = None
    each_caption: bool = False  # of COCO JSONs: a pair for each caption, not for each picture
    augmentation: PairAugmentation = _AUGMENTATION
    captions: Captions = Captions()
    maps: Mapping[str, str] = field(default_factory=dict)
    superpixels: Superpixels | None = None
    workers: Workers = _WORKERS

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
        pairs = parts[0] if len(parts) == 1 else Concatenated(parts)
        computed = computed_maps(self.superpixels)
        if both := sorted(self.maps.keys() & computed.keys()):
            raise SettingError(f"data.maps and data.superpixels both give {', '.join(both)}; leave one of them out")
        return self.captions.apply(pairs, self.augmentation, {**open_maps(self.maps), **computed})


def computed_maps(superpixels: Superpixels | None) -> dict[str, MapSource]:
    """Maps that are made of the pictures, by the name of the batch's field."""
    return {} if superpixels is None else {"superpixels": superpixels.maps()}
