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
from lexiseg.data.labelled.labels import Png
from lexiseg.data.labelled.samples import Sample
from lexiseg.errors import DataError, SettingError, UnknownName
from lexiseg.evaluation import contents
from lexiseg.evaluation.counting import Answer, Counting, Keep, Progress, count
from lexiseg.evaluation.evaluate import finish
from lexiseg.evaluation.pipeline import Item
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import Subject, open_benchmark, prepare
from lexiseg.inference.upsample import axes
from lexiseg.metrics.oracle import ASSIGNMENTS, label_proposals, label_segments
from lexiseg.proposals._proposals import Proposer
from lexiseg.segmenter import MaskScores

__all__ = ["oracle"]

Array = NDArray[Any]
ALL, NOWHERE = Counting(), Keep()


@dataclass(frozen=True)
class MaskFolder:
    """Masks on disk: KEY.png has the number of a part at every pixel, KEY.npz has "masks" [N, H, W], 0-1 or boolean."""

    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        return {"model": f"oracle of {self.folder}", "settings": {}}

    def beside(self, sample: Sample) -> Sequence[Path]:
        """The files that decide what is counted of a sample."""
        return [self._path(sample.key)]

    def __call__(self, item: Item) -> tuple[str, Array]:
        """("segments", parts [H, W]) or ("masks", [N, H, W]); raises `DataError` for masks that are not there."""
        path = self._path(item.key)
        if path.suffix == ".npz":
            return "masks", _stored_masks(path)
        if not path.is_file():
            raise DataError(f"{self.folder} has no masks for {item.key}; put them at {item.key}.png or {item.key}.npz")
        return "segments", np.asarray(Png(path).ids())

    def _path(self, key: str) -> Path:
        masks = self.folder / f"{key}.npz"
        return masks if masks.is_file() else self.folder / f"{key}.png"


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
        rows, columns = axes(result.grid, item.image.shape[:2], covers=result.covers, seen=embedded.resized)
        weights = result.weigh(columns.along_rows(rows.upsample(result.masks[0])))  # [N, H, W]
        if result.weights == "linear":  # shares, 0-1
            weights = weights / weights.sum(dim=0).clamp(min=torch.finfo(weights.dtype).tiny)
        return "masks", weights.cpu().numpy()


@dataclass(frozen=True, eq=False)
class ProposerMasks:
    """The masks that a proposer makes of a photograph, at the photograph's own size."""

    name: str
    config: Any
    proposer: Proposer

    @property
    def facts(self) -> dict[str, Any]:
        return {"model": f"oracle of {self.name}", "settings": settings.to_json(self.config)}

    def __call__(self, item: Item) -> tuple[str, Array]:
        pixels = torch.from_numpy(np.require(item.image, requirements="W")).permute(2, 0, 1)  # [3, H, W]
        size = (pixels.shape[1], pixels.shape[2])
        return "masks", self.proposer.propose(pixels[None]).of_image(0, size).numpy()  # [N, H, W]


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
        with a file for each image, see `MaskFolder`.
    assign: "hard" or "soft", for masks that may overlap; see `metrics.oracle`. Parts are always assigned hard.

    Raises what `evaluate` raises, and `DataError` for masks that are not there.
    """
    if assign not in ASSIGNMENTS:
        raise UnknownName("assignment", assign, ASSIGNMENTS)
    opened, source = _source(setup)
    beside = source.beside if isinstance(source, MaskFolder) else contents.nothing
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


def _source(setup: Setup) -> tuple[Opened, MaskFolder | ModelMasks | ProposerMasks]:
    model = setup.model
    if isinstance(model, Model) and model.name in catalog.names("proposals"):
        module = catalog.get("proposals", model.name)
        config = settings.change(module.Config(), model.changes)
        return open_benchmark(setup), ProposerMasks(model.name, config, module.load(config))
    if isinstance(model, Model) and Path(model.name).is_dir() and not (Path(model.name) / DESCRIPTION).is_file():
        return open_benchmark(setup), MaskFolder(Path(model.name))
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
        return label_segments(masks, item.truth, classes)
    return label_proposals(masks, item.truth, classes, assign=assign)


def _stored_masks(path: Path) -> Array:
    try:
        with np.load(path, allow_pickle=False) as content:
            masks: Array = content["masks"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); save it with numpy.savez_compressed(path, masks=...)"
        ) from error
    if masks.ndim != 3:
        raise DataError(f"the masks in {path} are {list(masks.shape)}; give [N, H, W]")
    return masks
