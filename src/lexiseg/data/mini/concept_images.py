"""Makes the small CLIP's samples: concepts at their places, and sentences.

A sample has, for a grid of patches of P pixels [h, w] and at most `MOST_CELLS` cells:

    image      uint8 [3, S, S]
    light      contrast c and what each channel gains g [4]: a level p of 0-1 is to be seen as 0.5 + c (p - 0.5) + g
    labels     concept at a random pixel of each patch [h, w]; -1 where not known, -2 where none of the concepts is
               that `absent` lists [C], -3 - c where concept c is not
    cells      which cell of the picture each patch belongs to [h, w]
    exact      whether a cell's labels are true at every pixel [MOST_CELLS]; else they only say what it shows
    sentences  N templates with a word each
    words      the concepts that they name [N], -1 for other words
    meanings   where the other words lie [N, D], zeros for concepts

`WordConcepts` has the last three alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.data.loader import Loader, Source
from lexiseg.data.mini.canvas import MOST_CELLS
from lexiseg.data.mini.concepts import gather_concepts
from lexiseg.data.mini.meanings import Words, read_words
from lexiseg.data.mini.pairs import Mini, MiniPairs
from lexiseg.data.mini.sheets import read_sheets
from lexiseg.data.opening import Workers
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.errors import DataError

__all__ = [
    "SENTENCES",
    "CanvasConcepts",
    "ConceptSource",
    "PhotographConcepts",
    "SceneConcepts",
    "Shot",
    "WordConcepts",
]

SENTENCES = (
    "{}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of {}.",
    "there is a {} in the scene.",
    "a photo of one {}.",
    "a close-up photo of a {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "this is a {}.",
)

_OWN = 0.5  # share of the sentences that name a concept of the pictures; the others name any noun
_COARSE = 0.2  # how often a concept is called by a coarser one
_PATCH = 8  # pixels
_SMALLEST_CROP = 0.6  # of the side of a photograph


@dataclass(frozen=True, eq=False)
class Shot:
    """image: RGB [S, S, 3]; labels: concepts or -1 [S, S]; cells [S, S]; exact: of each cell."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int16]
    cells: NDArray[np.uint8]
    exact: tuple[bool, ...]


class _Shots(Protocol):
    """things: the concepts that are absent, and all finer ones with them, where a label is -2."""

    @property
    def things(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...

    def shot(self, index: int, random: np.random.Generator) -> Shot: ...

    def manifest(self) -> dict[str, Any]: ...


class _Sentences:
    """`count` sentences for each sample; a `loader.Source` of its own, of as many samples as there are words."""

    def __init__(self, words: Words, count: int) -> None:
        self._words, self._count = words, count
        names = words.concepts.names
        place = {one[0].lower(): at for at, one in enumerate(names)}
        # a word that is some concept's first name means that one, also where others have it: "apple" is not a
        # Granny Smith
        own = [(name.lower(), at) for at, one in enumerate(names) for name in one]
        self._own = [(name, at) for name, at in own if place.get(name, at) == at]

    @property
    def blocks(self) -> Sequence[int]:
        return [len(self._own) + len(self._words.words)]

    def key(self, index: int) -> str:
        return f"sentences-{index:06d}"

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        return {"key": self.key(index), **self.draw(random)}

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        sentences, concepts, meanings = zip(*(self._one(random) for _ in range(self._count)), strict=True)
        return {"sentences": sentences, "words": np.array(concepts), "meanings": np.stack(meanings)}

    def manifest(self) -> dict[str, Any]:
        return {"kind": "words", "concepts": len(self._words.concepts.names), "words": len(self._words.words)}

    def _one(self, random: np.random.Generator) -> tuple[str, int, NDArray[np.float32]]:
        form, words = SENTENCES[int(random.integers(len(SENTENCES)))], self._words
        if not words.words or random.random() < _OWN:
            name, concept = self._own[int(random.integers(len(self._own)))]
            return form.replace("{}", name), concept, np.zeros(words.vectors.shape[1], np.float32)
        at = int(random.integers(len(words.words)))
        return form.replace("{}", words.words[at]), -1, words.vectors[at].astype(np.float32)


class ConceptSource:
    """A `loader.Source` of the samples that this file's description tells."""

    def __init__(self, shots: _Shots, words: Words, *, sentences: int = 1, jitter: float = 0.3) -> None:
        self._shots, self._coarser, self._jitter = shots, words.concepts.coarser, jitter
        things = set(shots.things)
        self._absent = np.array([at in things or not things.isdisjoint(up) for at, up in enumerate(self._coarser)])
        self._sentences = _Sentences(words, sentences)

    @property
    def blocks(self) -> Sequence[int]:
        return [len(self._shots)]

    def key(self, index: int) -> str:
        return self._shots.key(index)

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        shot = self._shots.shot(index, random)
        top, left = random.integers(_PATCH, size=2)
        exact = np.zeros(MOST_CELLS, bool)
        exact[: len(shot.exact)] = shot.exact
        return {
            "key": self.key(index),
            "image": np.ascontiguousarray(shot.image.transpose(2, 0, 1)),
            "light": self._light(random),
            "labels": self._coarsened(shot.labels[top::_PATCH, left::_PATCH], random),
            "absent": self._absent,
            "cells": shot.cells[_PATCH // 2 :: _PATCH, _PATCH // 2 :: _PATCH].astype(np.int64),
            "exact": exact,
            **self._sentences.draw(random),
        }

    def manifest(self) -> dict[str, Any]:
        return {"pictures": self._shots.manifest(), "sentences": self._sentences.manifest()}

    def _light(self, random: np.random.Generator) -> NDArray[np.float32]:
        """All of the picture brighter or darker, each channel by a little more or less."""
        contrast = random.uniform(1 - self._jitter, 1 + self._jitter)
        shift = random.uniform(-self._jitter, self._jitter) / 2 + random.uniform(-0.5, 0.5, 3) * self._jitter / 2
        return np.array([contrast, *shift], np.float32)

    def _coarsened(self, labels: NDArray[np.int16], random: np.random.Generator) -> NDArray[np.int64]:
        """Now and then a concept is called by a coarser one, the same all over the picture."""
        coarse: NDArray[np.int64] = labels.astype(np.int64)
        for concept in np.unique(labels):
            coarser = self._coarser[concept] if concept >= 0 else ()
            if coarser and random.random() < _COARSE:
                coarse[labels == concept] = coarser[int(random.integers(len(coarser)))]
        return coarse


@dataclass(frozen=True)
class PhotographConcepts:
    """Single photographs of `photos-train`, cropped to `size` pixels square, each showing the concept of its sheet.

    root: the folder with `photos-train` and `masks-train`; words: the file of `meanings.prepare`; cache: see
    `MiniPairs`; sentences: beside each picture.
    """

    root: str
    words: str
    cache: str | None = None
    size: int = 64
    sentences: int = 1
    workers: Workers = field(default_factory=Workers)

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> Loader:
        words, cache = read_words(Path(self.words)), None if self.cache is None else Path(self.cache)
        pairs = _pairs(self.root, Mini(), cache, words)
        photographs = _Photographs(Path(self.root), cache, self.size, pairs.concepts)
        source = ConceptSource(photographs, words, sentences=self.sentences)
        return _loader(source, self.workers, batch_size=batch_size, seed=seed, max_bad_fraction=max_bad_fraction)


@dataclass(frozen=True)
class CanvasConcepts:
    """Canvases of the miniature set, composed as `pairs` says; its captions are not used. See `PhotographConcepts`."""

    root: str
    words: str
    cache: str | None = None
    pairs: Mini = field(default_factory=lambda: Mini(masked=0.5))
    sentences: int = 1
    workers: Workers = field(default_factory=Workers)

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> Loader:
        words, cache = read_words(Path(self.words)), None if self.cache is None else Path(self.cache)
        canvases = _Canvases(_pairs(self.root, self.pairs, cache, words))
        source = ConceptSource(canvases, words, sentences=self.sentences)
        return _loader(source, self.workers, batch_size=batch_size, seed=seed, max_bad_fraction=max_bad_fraction)


@dataclass(frozen=True)
class WordConcepts:
    """Sentences without pictures, `sentences` in a sample; words: the file of `meanings.prepare`."""

    words: str
    sentences: int = 8
    workers: Workers = field(default_factory=Workers)

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> Loader:
        source = _Sentences(read_words(Path(self.words)), self.sentences)
        return _loader(source, self.workers, batch_size=batch_size, seed=seed, max_bad_fraction=max_bad_fraction)


@dataclass(frozen=True)
class SceneConcepts:
    """Drawn scenes, whose classes are the concepts, for tests and the TOY recipe."""

    scenes: Scenes = field(default_factory=Scenes)
    workers: Workers = field(default_factory=Workers)

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> Loader:
        words = Words(gather_concepts([(name,) for name in class_names()]), (), np.zeros((0, 1), np.float16))
        source = ConceptSource(_DrawnScenes(self.scenes), words)
        return _loader(source, self.workers, batch_size=batch_size, seed=seed, max_bad_fraction=max_bad_fraction)


class _Photographs:
    things = ()

    def __init__(self, root: Path, cache: Path | None, size: int, concepts: Sequence[Sequence[str]]) -> None:
        self._tiles, self._size = read_sheets(root / "photos-train", cache=cache), size
        place = {name.lower(): at for at, one in reversed(list(enumerate(concepts))) for name in one}
        place |= {one[0].lower(): at for at, one in reversed(list(enumerate(concepts)))}
        self._concept = np.array([place[sheet.names[0].lower()] for sheet in self._tiles.sheets], np.int16)

    def __len__(self) -> int:
        return len(self._tiles)

    def key(self, index: int) -> str:
        sheet = int(self._tiles.sheet[index])
        return f"{self._tiles.sheets[sheet].key}/{index - self._tiles.of_sheet(sheet).start}"

    def shot(self, index: int, random: np.random.Generator) -> Shot:
        picture, size = self._tiles.photograph(index), self._size
        side = random.uniform(_SMALLEST_CROP, 1) * min(picture.shape[:2])
        top, left = random.random(2) * (np.array(picture.shape[:2]) - side)
        image = Image.fromarray(picture).resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side)
        )
        pixels = np.asarray(image)[:, :: -1 if random.random() < 0.5 else 1]
        concept = self._concept[self._tiles.sheet[index]]
        return Shot(pixels, np.full((size, size), concept), np.zeros((size, size), np.uint8), (False,))

    def manifest(self) -> dict[str, Any]:
        return {"kind": "photographs", "size": self._size, "shards": self._tiles.hashes}


class _Canvases:
    def __init__(self, pairs: MiniPairs) -> None:
        self._pairs, self.things = pairs, pairs.things

    def __len__(self) -> int:
        return self._pairs.settings.canvases

    def key(self, index: int) -> str:
        return self._pairs.key(index)

    def shot(self, index: int, random: np.random.Generator) -> Shot:
        canvas = self._pairs.canvas(index)
        return Shot(canvas.image, canvas.labels, canvas.cells, canvas.exact)

    def manifest(self) -> dict[str, Any]:
        return self._pairs.manifest()


class _DrawnScenes:
    things = ()

    def __init__(self, scenes: Scenes) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return self._scenes.count

    def key(self, index: int) -> str:
        return self._scenes.key(index)

    def shot(self, index: int, random: np.random.Generator) -> Shot:
        scene = self._scenes.draw(index)
        return Shot(scene.image, scene.labels.astype(np.int16), np.zeros_like(scene.labels), (True,))

    def manifest(self) -> dict[str, Any]:
        return self._scenes.manifest()


def _pairs(root: str, settings: Mini, cache: Path | None, words: Words) -> MiniPairs:
    pairs = MiniPairs(Path(root), settings, cache=cache)
    if words.concepts.names[: len(pairs.concepts)] != pairs.concepts:
        raise DataError(f"the prepared words are of other photographs than those in {root}; prepare them again")
    return pairs


def _loader(source: Source, workers: Workers, **settings: Any) -> Loader:
    return Loader(source, workers=workers.number, kind=workers.kind, **settings)
