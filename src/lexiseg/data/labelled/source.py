"""Makes training samples of pictures that are labelled in part.

A model labels the other pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lexiseg.data.labelled.dense import UNLABELLED, DenseAugmentation, Labels, Relabelling
from lexiseg.data.labelled.pseudo import PseudoLabels
from lexiseg.errors import BadSample, DataError, ImageError
from lexiseg.files import digest
from lexiseg.vocabulary import Vocabulary

__all__ = ["DenseSource", "Labelled", "Picture"]


class Picture(Protocol):
    """A picture that is read when asked for."""

    @property
    def key(self) -> str: ...

    def image(self) -> NDArray[np.uint8]:
        """RGB [H, W, 3]; raises `DataError` or `ImageError` where it is unusable."""
        ...


class Labelled(Picture, Protocol):
    """A picture with its label map; the benchmarks' samples are such."""

    def truth(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Class indices [H, W]."""
        ...


class DenseSource:
    """Labelled pictures as training samples {"key", "image", "labels"}, for a `Loader`.

    samples: pictures with labels.
    augment: what happens to both.
    relabel: which labels the model sees.
    unlabelled: further pictures, whose labels are UNLABELLED everywhere and are never read.
    facts: what identifies the data, for the manifest; the keys of the samples are added.
    vocabulary: the classes that the labels are indices of, where they have words.
    background: whether there is one class more, the last, for what has none of these.
    pseudo_labels: a folder of label maps that a `Labelling` wrote, which fill UNLABELLED pixels.

    Raises `DataError` for a folder that holds no such label maps, or those of other classes.
    """

    def __init__(
        self,
        samples: Sequence[Labelled],
        augment: DenseAugmentation,
        *,
        relabel: Relabelling | None = None,
        unlabelled: Sequence[Picture] = (),
        facts: dict[str, Any] | None = None,
        vocabulary: Vocabulary | None = None,
        background: bool = False,
        pseudo_labels: str | None = None,
    ) -> None:
        self._samples, self._unlabelled = samples, unlabelled
        self._augment, self.relabel = augment, relabel or Relabelling()
        self.vocabulary = vocabulary
        self.classes = (() if vocabulary is None else vocabulary.names) + ("background",) * background
        self._facts = facts or {}
        self._pseudo = None if pseudo_labels is None else PseudoLabels.open(pseudo_labels)
        if self._pseudo is not None:
            self._pseudo.check(self.classes)

    @property
    def blocks(self) -> Sequence[int]:
        return [len(self._samples) + len(self._unlabelled)]

    def key(self, index: int) -> str:
        known = len(self._samples)
        return self._samples[index].key if index < known else self._unlabelled[index - known].key

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        try:
            image, labels = self.read(index)
        except BadSample:
            raise
        except (DataError, ImageError) as error:
            raise BadSample("unreadable sample", str(error)) from error
        pixels, training = self._augment(image, labels, random, ignore=self.relabel.ignore)
        return {"key": self.key(index), "image": pixels, "labels": training}

    def read(self, index: int) -> tuple[NDArray[np.uint8], Labels]:
        """The picture [H, W, 3] and its training labels [H, W], before any augmentation.

        Raises `DataError` or `ImageError` where one of them is unusable.
        """
        known = len(self._samples)
        if index < known:
            image, labels = self._samples[index].image(), self.relabel(self._samples[index].truth())
        else:
            image = self._unlabelled[index - known].image()
            labels = np.full(image.shape[:2], UNLABELLED)
        if labels.shape != image.shape[:2]:
            raise BadSample("sizes differ", f"image {image.shape[:2]}, labels {labels.shape}")
        return image, labels if self._pseudo is None else self._pseudo.fill(labels, self.key(index))

    def labels(self, index: int) -> Labels:
        """The training labels of `read` alone, [H, W]; photographs without any are read for their size."""
        if index >= len(self._samples):
            return self.read(index)[1]
        labels = self.relabel(self._samples[index].truth())
        return labels if self._pseudo is None else self._pseudo.fill(labels, self.key(index))

    @property
    def fillable(self) -> tuple[int, ...]:
        """The classes with words that UNLABELLED pixels may have: those that are suppressed, or all."""
        named = range(len(self.vocabulary or ()))
        return tuple(place for place in self.relabel.suppressed or named if place in named)

    def manifest(self) -> dict[str, Any]:
        keys = [[sample.key for sample in part] for part in (self._samples, self._unlabelled)]
        pseudo = {} if self._pseudo is None else {"pseudo_labels": self._pseudo.digest}
        return {
            "kind": "dense",
            "labelled": len(self._samples),
            "unlabelled": len(self._unlabelled),
            "hidden": list(self.relabel.hidden),
            "suppressed": list(self.relabel.suppressed),
            "sha256": digest(keys),
            **pseudo,
            **self._facts,
        }
