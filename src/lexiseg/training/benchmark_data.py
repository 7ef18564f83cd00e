"""Describes a benchmark's training split as data for a recipe.

The recipe may see all, some or none of its labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lexiseg import catalog
from lexiseg.data.labelled.dense import MASKCLIP_PLUS, DenseAugmentation, Relabelling
from lexiseg.data.labelled.source import DenseSource
from lexiseg.data.opening import Opening, Workers
from lexiseg.errors import SettingError

__all__ = ["BenchmarkData", "Labels"]

_ONE_WORKER = Workers(number=1)

Labels = Literal["all", "seen", "zero_shot", "annotation_free", "none"]


@dataclass(frozen=True)
class BenchmarkData(Opening):
    """Photographs and label maps of a benchmark's official download, augmented together.

    benchmark: its name in `benchmarks/`. root: the folder its data lie below.
    split: of the benchmark; None is the one it names for training.
    wording: see `benchmarks`; None is the benchmark's own.
    labels: which of them the model is told
        all              every class
        seen             classes that the zero-shot split keeps from training are ignored
        zero_shot        those classes are unlabelled, for pseudo-labels to fill; the seen keep their labels
        annotation_free  all classes are unlabelled, while unscored pixels are still left out (MaskCLIP+ as released)
        none             every pixel is unlabelled: no label map is read
    pseudo_labels: fill unlabelled pixels from the label maps of a `Labelling`: its folder, or "@NAME" of the stage.

    Raises `SettingError` when opened for "seen" or "zero_shot" of a benchmark without such a split.
    """

    benchmark: str
    root: str = "data"
    split: str | None = None
    wording: str | None = None
    labels: Labels = "all"
    pseudo_labels: str | None = None
    augmentation: DenseAugmentation = MASKCLIP_PLUS
    workers: Workers = _ONE_WORKER

    def source(self) -> DenseSource:
        benchmark = catalog.get("benchmarks", self.benchmark).BENCHMARK
        split = benchmark.train if self.split is None else self.split
        if split is None:
            raise SettingError(f"{self.benchmark} has no training split; name one of its splits with data.split")
        opened = benchmark.open(self.root, split=split, wording=self.wording)
        more: dict[str, Any] = {
            "facts": {**opened.facts, "labels": self.labels},
            "vocabulary": opened.vocabulary,
            "background": opened.background is not None,
            "pseudo_labels": self.pseudo_labels,
        }
        if self.labels == "none":
            ignoring = Relabelling(ignore=opened.ignore)
            return DenseSource((), self.augmentation, unlabelled=opened.samples, relabel=ignoring, **more)
        return DenseSource(opened.samples, self.augmentation, relabel=self._relabelling(opened), **more)

    def _relabelling(self, opened: Any) -> Relabelling:
        if self.labels == "annotation_free":
            return Relabelling(ignore=opened.ignore, suppressed=tuple(range(len(opened.names))))
        if self.labels == "all":
            return Relabelling(ignore=opened.ignore)
        unseen = opened.subsets.get("unseen")
        if unseen is None:
            raise SettingError(
                f"{self.benchmark} keeps no classes from training; labels={self.labels} needs a zero-shot split, "
                "for example voc_15_5"
            )
        told = {"seen": {"hidden": unseen}, "zero_shot": {"suppressed": unseen}}[self.labels]
        return Relabelling(ignore=opened.ignore, **told)
