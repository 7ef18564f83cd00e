"""Makes the miniature pair set of real photographs with captions.

It stands on the photographs of a data root with the folders `photos-train` (sheets, see `sheets`) and `masks-train`
(photographs with label maps, see `masked`). Its pairs, in order:

1. **Canvases**: one to four photographs, each in a cell of its own, with a caption that lists what is on them. A cell
   is a photograph of a sheet or a part of a masked photograph.
2. **Photographs** of `masks-train`, whole, several times each, with their real captions where there are some, else
   with captions that list the classes in them.

Pair number i is the same for every run and system: only (settings, i) decide it. The held-out photographs of
`masked.held_out` are in no pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lexiseg.data.mini.canvas import MOST_CELLS, Layouts, Pixels, compose, crop_around, fit
from lexiseg.data.mini.masked import IGNORE, LAST_THING, THINGS_ALONE, MaskedPhotograph, read_masked
from lexiseg.data.mini.sheets import read_sheets
from lexiseg.data.pairs.lexicon import PLURALS
from lexiseg.errors import DataError
from lexiseg.files import digest

__all__ = ["ABSENT", "NOTHING", "VERSION", "Canvas", "Mini", "MiniPairs", "Statistics", "list_names"]

VERSION = 1  # of how pairs are made of settings and photographs; raise it with every change that makes others

# in a canvas's labels, where no concept is known:
NOTHING = -1  # it is not known what is there
ABSENT = -2  # nothing that can be counted: the annotators of this photograph marked all such things
# and ABSENT - 1 - C means "not concept C": it is outside the box around the photograph's object

Visible = NDArray[np.bool_]

_FORMS = (
    "a photo of {}.",
    "a picture of {}.",
    "this is a photo of {}.",
    "there is {} in the picture.",
    "the picture shows {}.",
    "an image with {} in it.",
    "here we see {}.",
    "{}.",
)


@dataclass(frozen=True)
class Mini:
    """What makes up the set; changing anything makes another set, with another manifest.

    size: side of a canvas, pixels.
    canvases: how many there are.
    repeats: how often each whole photograph comes.
    cells: how likely canvases of one, two, three and four cells are, as parts of 1.
    masked: share of the cells that show a part of a masked photograph.
    irregular: share of the canvases whose cells have wavy borders.
    named: a class is named when it covers this share of its cell or photograph, or more.
    most_named: how many things a caption names at most; the largest of each cell come first.
    shards: beginnings of the names of the sheet shards to use; none for all.
    """

    size: int = 128
    canvases: int = 200_000
    repeats: int = 20
    cells: tuple[float, float, float, float] = (0.3, 0.3, 0.2, 0.2)
    masked: float = 0.25
    irregular: float = 0.5
    named: float = 0.05
    most_named: int = 6
    shards: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Canvas:
    """image: RGB [size, size, 3].

    labels: indices into `MiniPairs.concepts` or what is known otherwise (ABSENT) [size, size]; exact in cells of masked
        photographs, while a photograph of a sheet has its class all over the box around its object.
    cells: which cell each pixel belongs to [size, size]; exact: whether each cell's labels are exact.
    """

    image: Pixels
    labels: NDArray[np.int16]
    cells: Pixels
    exact: tuple[bool, ...]
    caption: str


@dataclass(frozen=True)
class Statistics:
    """The set in numbers. Words are counted between blanks, over all captions of `sampled` pairs spread evenly."""

    pairs: int
    canvases: int
    photographs: int
    with_real_captions: int
    concepts: int
    sampled: int
    fewest_words: int
    mean_words: float
    most_words: int
    sha256: str


class MiniPairs:
    """The miniature pair set under a data root; see the module's description.

    cache: a folder for the decoded photographs, 2.3 GB, which later runs and all processes then share; None decodes
        them into memory.

    concepts: the names of each thing that captions can name: the classes of `masks-train`, then those of the sheets,
        one concept where the sheet's first name is a name of an earlier one.
    things: the concepts that are not where a canvas says ABSENT.

    Raises `DataError` where the root lacks the photographs.
    """

    def __init__(self, root: Path, settings: Mini | None = None, *, cache: Path | None = None) -> None:
        self.settings = settings = settings or Mini()
        self._root, self._cache = root, cache
        self._tiles = read_sheets(root / "photos-train", shards=settings.shards, cache=cache)
        self._masked = read_masked(root / "masks-train", cache=cache)
        self._nameable = [one for one in self._masked.photographs if self._named(one.truth())]
        self._whole = [one for one in self._masked.photographs if one.captions or self._named(one.truth())]
        if not self._nameable:
            raise DataError(f"no photograph of {root / 'masks-train'} has a class of {settings.named} of its area")
        self._layouts = Layouts(settings.size, seed=settings.seed)
        self._ranges = [self._tiles.of_sheet(sheet) for sheet in range(len(self._tiles.sheets))]
        self.concepts, self._concept_of_sheet = self._merge()
        self._countable = [kind.thing for kind in self._masked.classes]
        self.things = tuple(at for at, kind in enumerate(self._masked.classes) if kind.thing and kind.id <= LAST_THING)
        # the root of the count: 500 photographs of a class count more than 30, but not 16 times as much
        weight = np.sqrt([len(photographs) for photographs in self._ranges])
        self._sheet_ends = np.cumsum(weight / weight.sum())
        self._cell_ends = np.cumsum(settings.cells)

    def __reduce__(self) -> tuple[Any, ...]:
        # a worker that is not forked opens the set again: gigabytes are not sent to it
        return partial(MiniPairs, cache=self._cache), (self._root, self.settings)

    @property
    def blocks(self) -> Sequence[int]:
        return [self.settings.canvases + self.settings.repeats * len(self._whole)]

    def key(self, index: int) -> str:
        if index < self.settings.canvases:
            return f"canvas-{index:06d}"
        photograph, time = self._photograph(index)
        return f"{photograph.key}/{time}"

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        if index < self.settings.canvases:
            canvas = self.canvas(index)
            return Image.fromarray(canvas.image), (canvas.caption,)
        photograph, _ = self._photograph(index)
        return Image.fromarray(photograph.image()), photograph.captions or (self._listing(photograph, index),)

    def canvas(self, index: int) -> Canvas:
        """Canvas number `index`."""
        random = np.random.default_rng([self.settings.seed, index])
        count = min(int(np.searchsorted(self._cell_ends, random.random(), side="right")) + 1, MOST_CELLS)
        layout = self._layouts.draw(count, random, irregular=random.random() < self.settings.irregular)
        pieces = [self._piece(layout.visible(cell), random) for cell in range(count)]
        ranked = zip_longest(*(piece.concepts for piece in pieces))
        concepts = list(dict.fromkeys(concept for rank in ranked for concept in rank if concept is not None))
        return Canvas(
            compose(layout, [piece.image for piece in pieces]),
            compose(layout, [piece.labels for piece in pieces]),
            layout.cells,
            tuple(piece.exact for piece in pieces),
            self._caption(concepts, random),
        )

    def manifest(self) -> dict[str, Any]:
        """Equal for equal sets: how pairs are made, the settings, and the photographs, held-out ones excepted."""
        facts = {
            "version": VERSION,
            "settings": asdict(self.settings),
            "shards": self._tiles.hashes | self._masked.hashes,
            "photographs": [photograph.key for photograph in self._whole],
        }
        return {"kind": "mini", "pairs": self.blocks[0], "sha256": digest(facts), "settings": facts["settings"]}

    def statistics(self, *, sampled: int = 2000) -> Statistics:
        """Number of pairs, caption lengths and hash, for tables and cards."""
        chosen = np.unique(np.linspace(0, self.blocks[0] - 1, sampled).astype(int))
        words = [len(caption.split()) for index in chosen for caption in self.read(int(index))[1]]
        return Statistics(
            pairs=self.blocks[0],
            canvases=self.settings.canvases,
            photographs=len(self._tiles) + len(self._masked.photographs),
            with_real_captions=sum(bool(photograph.captions) for photograph in self._masked.photographs),
            concepts=len(self.concepts),
            sampled=len(chosen),
            fewest_words=min(words),
            mean_words=round(float(np.mean(words)), 2),
            most_words=max(words),
            sha256=self.manifest()["sha256"],
        )

    def _photograph(self, index: int) -> tuple[MaskedPhotograph, int]:
        time, at = divmod(index - self.settings.canvases, len(self._whole))
        return self._whole[at], time

    def _merge(self) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.int16]]:
        """All concepts, and the concept of each sheet."""
        concepts = [list(kind.names) for kind in self._masked.classes]
        known = {name.lower(): at for at, names in reversed(list(enumerate(concepts))) for name in names}
        of_sheet = []
        for sheet in self._tiles.sheets:
            at = known.setdefault(sheet.names[0].lower(), len(concepts))
            if at == len(concepts):
                concepts.append([])
            concepts[at] += [name for name in sheet.names if name not in concepts[at]]
            of_sheet.append(at)
        return tuple(map(tuple, concepts)), np.array(of_sheet, np.int16)

    def _piece(self, visible: Visible, random: np.random.Generator) -> _Piece:
        """What fills a cell; `visible` [h, w] are the pixels of its box that belong to it."""
        if random.random() < self.settings.masked:
            return self._masked_piece(visible, random)
        return self._tile((visible.shape[0], visible.shape[1]), random)

    def _tile(self, shape: tuple[int, int], random: np.random.Generator) -> _Piece:
        """A photograph of a sheet, cropped so that the middle of its object stays."""
        sheet = min(int(np.searchsorted(self._sheet_ends, random.random(), side="right")), len(self._ranges) - 1)
        photographs = self._ranges[sheet]
        index = photographs[int(random.integers(len(photographs)))]
        picture, (left, top, right, bottom) = self._tiles.photograph(index), self._tiles.boxes[index]
        size, focus = (picture.shape[0], picture.shape[1]), ((top + bottom) / 2, (left + right) / 2)
        box = crop_around(size, shape, random, side=(0.7, 1.0), focus=focus)
        mirror = random.random() < 0.5
        image = fit(picture, box, shape, mirror=mirror)
        concept = int(self._concept_of_sheet[sheet])
        inside = np.zeros(size, np.uint8)
        inside[top : bottom + 1, left : right + 1] = 1
        labels = np.where(fit(inside, box, shape, mirror=mirror), concept, ABSENT - 1 - concept).astype(np.int16)
        return _Piece(image, labels, (concept,), exact=False)

    def _masked_piece(self, visible: Visible, random: np.random.Generator) -> _Piece:
        """A part of a masked photograph with something in it that can be named."""
        shape = visible.shape[0], visible.shape[1]
        while True:
            photograph = self._nameable[int(random.integers(len(self._nameable)))]
            truth = photograph.truth()
            box = crop_around((truth.shape[0], truth.shape[1]), shape, random, side=(0.35, 1.0))
            mirror = random.random() < 0.5
            labels = fit(truth, box, shape, mirror=mirror)
            concepts = self._named(labels[visible])
            if concepts:
                image = fit(photograph.image(), box, shape, mirror=mirror)
                unknown = np.int16(ABSENT if photograph.key.startswith(THINGS_ALONE) else NOTHING)
                known = np.where(labels == IGNORE, unknown, labels.astype(np.int16))
                return _Piece(image, known, concepts, exact=True)

    def _named(self, labels: Pixels) -> tuple[int, ...]:
        """The classes that cover enough of some labels to be named, the largest first."""
        counts = np.bincount(labels.reshape(-1), minlength=IGNORE)[: len(self._masked.classes)]
        order = np.argsort(-counts, kind="stable")
        return tuple(int(at) for at in order if counts[at] >= max(1, self.settings.named * labels.size))

    def _listing(self, photograph: MaskedPhotograph, index: int) -> str:
        return self._caption(self._named(photograph.truth()), np.random.default_rng([self.settings.seed, index]))

    def _caption(self, concepts: Sequence[int], random: np.random.Generator) -> str:
        """A sentence that names the concepts in random order, each by its first name or, half the time, by any."""
        concepts, chosen = concepts[: self.settings.most_named], []
        for at in random.permutation(len(concepts)):
            concept = concepts[at]
            names = self.concepts[concept]
            name = names[0] if random.random() < 0.5 else names[int(random.integers(len(names)))]
            chosen.append((name, concept >= len(self._countable) or self._countable[concept]))
        form = _FORMS[int(random.integers(len(_FORMS)))]
        return form.format(list_names(chosen))


@dataclass(frozen=True, eq=False)
class _Piece:
    """What fills a cell; concepts: those to be named."""

    image: Pixels
    labels: NDArray[np.int16]
    concepts: tuple[int, ...]
    exact: bool


def list_names(names: Sequence[tuple[str, bool]]) -> str:
    """ "a dog, an apple and grass": countable names get an article, unless they look like plurals."""
    phrases = [_with_article(name) if countable else name for name, countable in names]
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def _with_article(name: str) -> str:
    if name in PLURALS or (name.endswith("s") and not name.endswith(("ss", "us", "is"))):
        return name
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
