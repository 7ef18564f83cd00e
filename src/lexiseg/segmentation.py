"""Holds the words of one photograph, pixel by pixel.

A `Segmentation` is all that a user receives.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lexiseg.errors import DataError, OutputError, SettingError
from lexiseg.formats import label_maps, palette
from lexiseg.vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL import Image

    from lexiseg.formats.legend import Row
    from lexiseg.formats.overlay import Photograph

__all__ = ["Segmentation", "label_dtype"]

Labels = npt.NDArray[np.uint8 | np.uint16]


def label_dtype(classes: int) -> np.dtype[np.uint8 | np.uint16]:
    """uint8 for up to 255 classes, uint16 above; the largest value means "none of them"."""
    return np.dtype(np.uint8 if classes <= 255 else np.uint16)


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The label map of one photograph, and the words it is in.

    labels: each pixel's class, by its place in the vocabulary [H, W]; `unlabelled` where it is none of them. uint8 for
        up to 255 classes, uint16 above.
    scores: posterior of the winning class, 0-1, float16 [H, W]; None where it was not kept.
    model: name of the model.
    settings: what it was run with; plain JSON values.
    warnings: a sentence each, for example about a word that is far from everything the model has seen.
    image: the photograph for `overlay` to draw on: RGB uint8 [H, W, 3], a PIL image or its path. Never saved.

    Raises `DataError` where labels, scores and vocabulary do not fit each other.

    >>> import lexiseg
    >>> from skimage import data
    >>> model = lexiseg.load("maskclip/mini")
    >>> result = model.segment(data.chelsea(), "cat, blanket, wall")
    >>> result.labels.shape, str(result.labels.dtype)
    ((300, 451), 'uint8')
    >>> result.found[0], result.area("cat") > 0.5  # the largest class, and a fraction of the picture
    ('cat', True)
    >>> data.chelsea()[result.mask("cat")].shape[1]  # the cat's pixels alone, [pixels, 3]
    3
    >>> result.overlay().save("cat-labelled.png")
    >>> result.save("cat.png")  # and cat.json beside it
    >>> lexiseg.Segmentation.load("cat.png").names
    ('cat', 'blanket', 'wall')
    """

    labels: Labels
    scores: npt.NDArray[np.float16] | None
    vocabulary: Vocabulary
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    image: Photograph | None = None

    def __post_init__(self) -> None:
        labels, dtype = self.labels, label_dtype(len(self.vocabulary))
        if labels.ndim != 2 or not labels.size or labels.dtype != dtype:
            raise DataError(
                f"the label map of {len(self.vocabulary)} classes is {labels.dtype} {list(labels.shape)}; "
                f"give {dtype} [H, W] with at least one pixel"
            )
        # one up, so that `unlabelled` wraps to zero and a maximum tells
        if (highest := int((labels + dtype.type(1)).max())) > len(self.vocabulary):
            raise DataError(
                f"the label map holds {highest - 1}, but there are {len(self.vocabulary)} classes; "
                f"use 0 to {len(self.vocabulary) - 1}, and {self.unlabelled} for none of them"
            )
        if self.scores is not None and (self.scores.dtype != np.float16 or self.scores.shape != labels.shape):
            raise DataError(
                f"the scores are {self.scores.dtype} {list(self.scores.shape)}; give float16 {list(labels.shape)}"
            )

    def __repr__(self) -> str:
        height, width = self.labels.shape
        shares = [f"{name} {self.area(name):.1%}" for name in self.found[:5]]
        if len(self.found) > len(shares):
            shares.append(f"{len(self.found) - len(shares)} more")
        if self._pixels[-1]:
            shares.append(f"unlabelled {self.unlabelled_area:.1%}")
        model = f", {self.model}" if self.model else ""
        return f"Segmentation({width}x{height} pixels, {len(self.vocabulary)} classes{model}: {', '.join(shares)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in order [C]; label i is names[i]."""
        return self.vocabulary.names

    @property
    def unlabelled(self) -> int:
        """The label of pixels that are none of the classes: 255, or 65535 above 255 classes."""
        return int(np.iinfo(self.labels.dtype).max)

    @property
    def found(self) -> tuple[str, ...]:
        """The classes that have pixels, largest first."""
        return tuple(self.names[label] for label in self._found)

    @functools.cached_property
    def colours(self) -> npt.NDArray[np.uint8]:
        """The colour of each class in overlays and saved palettes [C, 3], sRGB 0-255.

        Up to 24 classes have the same colours in all pictures with the same vocabulary. In a larger one, the classes
        that cover most of this picture are given the clearest colours.
        """
        most = sorted(self._found[: len(palette.TABLE)])
        return palette.colours(self.names, most)

    @property
    def unlabelled_area(self) -> float:
        """The fraction of the picture that is none of the classes, 0-1."""
        return float(self._pixels[-1] / self.labels.size)

    def area(self, name: str) -> float:
        """The fraction of the picture that is the class `name`, 0-1; raises `UnknownName`."""
        return float(self._pixels[self.vocabulary.index(name)] / self.labels.size)

    def areas(self) -> dict[str, float]:
        """The fraction of the picture that each class has, 0-1, in order; zero for those that do not occur."""
        return dict(zip(self.names, (self._pixels[:-1] / self.labels.size).tolist(), strict=True))

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Where the class `name` is [H, W]; raises `UnknownName`."""
        return np.asarray(self.labels == self.vocabulary.index(name))

    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where each class is that occurs [H, W], largest first."""
        return {name: self.mask(name) for name in self.found}

    def overlay(
        self, image: Photograph | None = None, *, alpha: float = 0.6, legend: bool = True, words: bool = True
    ) -> Image.Image:
        """The label map drawn over the photograph: regions in the colours of their classes, with lines between them.

        image: the photograph (a path, a PIL image, or RGB uint8 [H, W, 3]); without one the photograph that was
            segmented, or plain colours where this was loaded from a file.
        alpha: how much of the class's colour covers the photograph, 0-1.
        legend: the classes that occur, with their areas. Without it the picture has the photograph's size; with it
            the top left corner has.
        words: the class's name written on each region that has room for it.

        Pixels without a label are grey and striped. A name that no font here can write is "class 3", by its label.

        Raises `ImageError` where the photograph cannot be read or has another size.
        """
        from lexiseg.formats import overlay

        if not 0 <= alpha <= 1:
            raise SettingError(f"alpha is {alpha}; give a number from 0 to 1")
        given = self.image if image is None else image
        photograph = None if given is None else overlay.read(given, size=self._size)
        none = self.unlabelled_area
        return overlay.draw(
            photograph, self.labels, self._rows(), unlabelled=none, alpha=alpha, legend=legend, words=words
        )

    def to_coco_rle(self) -> list[dict[str, Any]]:
        """The classes that occur as COCO annotations with compressed run lengths, largest first.

        category_id is the label; area is in pixels; bbox is [x, y, width, height] in pixels; score, the mean posterior
        of the class's pixels, is there if `scores` is.
        """
        from lexiseg.formats import coco

        names = {label: self.names[label] for label in self._found}
        if self.scores is None:
            return coco.encode(self.labels, names)
        means = {label: float(self._score_sums[label] / self._pixels[label]) for label in names}
        return coco.encode(self.labels, names, means)

    def to_coco(self, file_name: str) -> dict[str, Any]:
        """A COCO data set of one image, which `pycocotools.COCO` loads: `to_coco_rle` with its image and categories.

        file_name: of the photograph.
        """
        from lexiseg.formats import coco

        return coco.data_set(self.to_coco_rle(), self.names, self._size, file_name)

    def to_json(self) -> dict[str, Any]:
        """Everything but the pixels: what stands beside a saved label map, and what `load` needs to read it."""
        vocabulary = self.vocabulary
        rows = zip(vocabulary.names, vocabulary.words, self.colours, self.areas().values(), strict=True)
        return {
            "model": self.model,
            "settings": dict(self.settings),
            "size": list(self._size),
            "classes": [
                {"label": label, "name": name, "words": list(words), "colour": _hex(colour), "area": area}
                for label, (name, words, colour, area) in enumerate(rows)
            ],
            "unlabelled": {"label": self.unlabelled, "colour": _hex(palette.UNLABELLED), "area": self.unlabelled_area},
            "background": list(vocabulary.background),
            "seen": None if vocabulary.seen is None else list(vocabulary.seen),
            "shared_words": vocabulary.shared_words,
            "warnings": list(self.warnings),
        }

    def save(self, path: str | os.PathLike[str], *, grey: bool = False, made_with: str = "") -> None:
        """Writes what `load` reads back.

        "x.png": the label map as a PNG whose pixels are the labels, and everything else but the scores in "x.json"
            beside it. The PNG has a palette of the classes' colours; above 255 classes it is grey with 16 bits.
        "x.npz": labels, scores and the rest in one file, uncompressed.
        grey: a grey PNG for any number of classes, for programs that replace labels by their colours (OpenCV).
        made_with: a hash of all that decided the result, for a later run to recognise it by.

        Raises `OutputError` for any other suffix, where the file cannot be written, and where it would take the place
        of a file that lexiseg did not write.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".png":
                table = None if grey else self._palette()
                label_maps.write_png(path, self.labels, self.to_json(), table, made_with=made_with)
            case ".npz":
                label_maps.write_npz(path, self.labels, self.scores, self.to_json(), made_with=made_with)
            case suffix:
                raise OutputError(f"a segmentation is saved as .png or .npz, not {suffix!r}; rename {path}")

    def to_png(self, *, grey: bool = False) -> bytes:
        """The PNG that `save` writes; the facts that `save` puts beside it are those of `to_json`."""
        from lexiseg.formats import origin, png

        return png.encode(self.labels, None if grey else self._palette(), texts=origin.png_texts(""))

    def to_npz(self) -> bytes:
        """The NPZ that `save` writes."""
        return label_maps.npz_bytes(self.labels, self.scores, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, edited: bool = False) -> Segmentation:
        """Reads what `save` wrote.

        edited: take a label map that another program has changed since.

        Raises `DataError` where the file is missing, damaged or something else, and where the label map is not the one
        that the JSON beside it was written with.
        """
        path = Path(path)
        try:
            if path.suffix.lower() == ".npz":
                labels, scores, facts = label_maps.read_npz(path)
            else:
                (labels, facts), scores = label_maps.read_png(path), None
                if not edited:
                    label_maps.check_pair(path, facts)
            words = {row["name"]: row["words"] for row in facts["classes"]}
            vocabulary = Vocabulary.from_json({**facts, "classes": words})
            return cls(labels, scores, vocabulary, facts["model"], facts["settings"], tuple(facts["warnings"]))
        except DataError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise DataError(f"{path} is not a saved segmentation: {error}; make it with Segmentation.save") from error

    @functools.cached_property
    def _found(self) -> list[int]:
        """The labels that occur, largest first."""
        order = np.argsort(-self._pixels[:-1], kind="stable")
        return [int(label) for label in order if self._pixels[label]]

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self.labels.shape
        return height, width

    @functools.cached_property
    def _pixels(self) -> npt.NDArray[np.int64]:
        """Pixels of each class, then those of none [C + 1]."""
        counts = np.zeros(len(self.vocabulary) + 1, np.int64)
        for rows in self._blocks():
            counts += np.bincount(self._flat(rows), minlength=len(counts))
        return counts

    @functools.cached_property
    def _score_sums(self) -> npt.NDArray[np.float64]:
        """Sum of the scores of each class, then of none [C + 1]."""
        assert self.scores is not None
        sums = np.zeros(len(self.vocabulary) + 1)
        for rows in self._blocks():
            sums += np.bincount(self._flat(rows), self.scores[rows].ravel(), len(sums))
        return sums

    def _blocks(self) -> Iterator[slice]:
        """A few rows at a time, since counting takes 8 bytes a pixel and more."""
        height, width = self._size
        step = max(1, 2**20 // width)
        return (slice(top, top + step) for top in range(0, height, step))

    def _flat(self, rows: slice) -> Labels:
        """The labels of some rows, with C for unlabelled."""
        return np.minimum(self.labels[rows], len(self.vocabulary)).ravel()

    def _rows(self) -> dict[int, Row]:
        """The legend's rows of the labels that occur, largest first."""
        from lexiseg.formats.legend import Row

        colours, areas = self.colours.tolist(), [*self.areas().values()]
        return {label: Row(self.names[label], tuple(colours[label]), areas[label]) for label in self._found}

    def _palette(self) -> npt.NDArray[np.uint8] | None:
        """The colour of each value of a byte [256, 3]; None above 255 classes."""
        if self.labels.dtype != np.uint8:
            return None
        table = np.full((256, 3), palette.UNLABELLED, np.uint8)
        table[: len(self.names)] = self.colours
        return table


def _hex(colour: Iterable[int]) -> str:
    return "#" + bytes(colour).hex()
