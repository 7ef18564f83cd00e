"""Scores class-agnostic masks as if each had its right class.

What is left of the error is then the masks' alone.

ZSSeg names its proposals so (Table 6; by the class of largest overlap in the paper, "hard", and by IoU in the code,
"soft"), S-Seg the parts of its pseudo-masks (Table 1), each by the class of most of its pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexiseg import catalog, settings
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.catalog import DESCRIPTION
from lexiseg.data.labelled.samples import Sample
from lexiseg.errors import DataError, SettingError, UnknownName
from lexiseg.evaluation import contents
from lexiseg.evaluation.counting import Answer, Counting, Keep, Progress, count
from lexiseg.evaluation.evaluate import finish
from lexiseg.evaluation.pipeline import Item
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import Subject, open_benchmark, prepare
from lexiseg.inference.regions import Proposing, proposals_of
from lexiseg.inference.upsample import axes
from lexiseg.metrics.confusion import unlabelled
from lexiseg.metrics.oracle import ASSIGNMENTS, label_proposals, label_segments
from lexiseg.proposals._folder import MaskFolder
from lexiseg.segmenter import MaskScores

__all__ = ["oracle"]

Array = NDArray[Any]
ALL, NOWHERE = Counting(), Keep()


@dataclass(frozen=True)
class FolderMasks:
    """Masks on disk, see `proposals/_folder.py`."""

    folder: MaskFolder

    @property
    def facts(self) -> dict[str, Any]:
        return {"model": f"oracle of {self.folder.path}", "settings": {}}

    def beside(self, sample: Sample) -> Sequence[Path]:
        """The files that decide what is counted of a sample."""
        return self.folder.beside(sample.key)

    def __call__(self, item: Item) -> tuple[str, Array]:
        """("segments", parts [H, W]) or ("masks", [N, H, W]); raises `DataError` for masks that do not fit."""
        assert item.truth is not None
        masks = self.folder.of(item.key).read((item.truth.shape[0], item.truth.shape[1]))
        return ("segments" if masks.ndim == 2 else "masks"), masks


@dataclass(frozen=True, eq=False)
class ModelMasks:
    """The masks that a model makes of a photograph, whatever it would call them."""

    subject: Subject

    @property
    def facts(self) -> dict[str, Any]:
        predictor = self.subject.predictor
        return {"model": f"oracle of {predictor.name}", "settings": predictor.settings}

    @torch.inference_mode()
    def __call__(self, item: Item) -> tuple[str, Array]:
        predictor = self.subject.predictor
        embedded = predictor.embed(item.image)
        size = (item.image.shape[0], item.image.shape[1])
        if predictor.segmenter.traits.regions:
            found = proposals_of(embedded, predictor.name)
            grid = (found.masks.shape[2], found.masks.shape[3])
            rows, columns = axes(grid, size, covers=found.covers, seen=embedded.resized)
            return "masks", columns.along_rows(rows.upsample(found.masks[0][found.valid[0]])).sigmoid().cpu().numpy()
        views = list(embedded.views)
        result = predictor.segmenter.classify(views[0][1], predictor.embed_text(self.subject.vocabulary))
        if not isinstance(result, MaskScores):
            raise SettingError(f"{predictor.name} labels places, not masks; give a mask method, or a folder of masks")
        if len(views) > 1:
            raise SettingError(f"{predictor.name} looks at {item.key} in {len(views)} windows; set window=none")
        if len(embedded.looks) > 1:
            raise SettingError(
                f"{predictor.name} looks at {item.key} {len(embedded.looks)} times; set scales=1 flip=false"
            )
        rows, columns = axes(result.grid, size, covers=result.covers, seen=embedded.resized)
        weights = result.weigh(columns.along_rows(rows.upsample(result.masks[0])))  # [N, H, W]
        if result.weights == "linear":  # shares, 0-1
            weights = weights / weights.sum(dim=0).clamp(min=torch.finfo(weights.dtype).tiny)
        return "masks", weights.cpu().numpy()


@dataclass(frozen=True, eq=False)
class ProposerMasks:
    """The masks that a proposer makes of a photograph, at the photograph's own size."""

    source: Proposing

    @property
    def facts(self) -> dict[str, Any]:
        return {"model": f"oracle of {self.source.name}", "settings": settings.to_json(self.source.config)}

    def __call__(self, item: Item) -> tuple[str, Array]:
        pixels = torch.from_numpy(np.require(item.image, requirements="W")).permute(2, 0, 1)  # [3, H, W]
        size = (pixels.shape[1], pixels.shape[2])
        return "masks", self.source.proposer.propose(pixels[None]).of_image(0, size).numpy()  # [N, H, W]


def oracle(
    setup: Setup,
    *,
    assign: str = "hard",
    counting: Counting = ALL,
    keep: Keep = NOWHERE,
    progress: Progress | None = None,
) -> Result:
    """Scores masks that are named by the ground truth.

    setup: its model is the name of a proposer (`lexiseg list proposals`), of a model whose masks are taken, or a folder
        with masks for each image, or a COCO file of them: see `proposals/_folder.py`.
    assign: "hard" or "soft", for masks that may overlap; see `metrics.oracle`. Parts are always assigned hard.

    Raises what `evaluate` raises, and `DataError` for masks that are not there.
    """
    if assign not in ASSIGNMENTS:
        raise UnknownName("assignment", assign, ASSIGNMENTS)
    opened, source = _source(setup)
    beside = source.beside if isinstance(source, FolderMasks) else contents.nothing
    facts = {
        **source.facts,
        "benchmark": opened.facts,
        "protocol": {"name": "oracle", "assign": assign, "average": "present_or_predicted"},
        "counting": counting.facts,
    }
    if (found := keep.finished(facts, counting.chosen(opened.samples), beside)) is not None:
        return found

    def label(items: Iterator[Item]) -> Iterator[Answer]:
        for item in items:
            yield Answer(item, _named(source, item, len(opened.names), assign))

    tallies, profile = count(opened, label, counting, facts=facts, keep=keep, progress=progress, beside=beside)
    return finish(opened, facts, tallies, profile, [], keep=keep)


def _source(setup: Setup) -> tuple[Opened, FolderMasks | ModelMasks | ProposerMasks]:
    model = setup.model
    if isinstance(model, Model):
        if model.name in catalog.names("proposals"):
            return open_benchmark(setup), ProposerMasks(Proposing.load(model.name, model.changes))
        place = Path(model.name)
        if place.is_file() or (place.is_dir() and not (place / DESCRIPTION).is_file()):
            return open_benchmark(setup), FolderMasks(MaskFolder.open(place))
    subject = prepare(setup)
    return subject.opened, ModelMasks(subject)


def _named(source: Callable[[Item], tuple[str, Array]], item: Item, classes: int, assign: str) -> Array:
    """The label map of an item's masks, each with its right class."""
    if item.truth is None:  # a placeholder, whose labels are not counted
        return np.zeros(item.image.shape[:2], np.uint8)
    kind, masks = source(item)
    if masks.shape[-2:] != item.truth.shape:
        raise DataError(
            f"the masks of {item.key} are {list(masks.shape[-2:])} and its label map is {list(item.truth.shape)}; "
            "resize the masks to the label map"
        )
    if kind == "segments":
        if assign == "soft":
            raise SettingError(f"the masks of {item.key} are parts of a label map; soft is for masks that may overlap")
        labels = label_segments(masks, item.truth, classes)
        return np.where(masks == np.iinfo(masks.dtype).max, unlabelled(classes), labels)
    return label_proposals(masks, item.truth, classes, assign=assign)
