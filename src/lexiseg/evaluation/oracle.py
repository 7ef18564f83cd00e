"""oracle: what class-agnostic masks would score if each was given its right class, so that only they are to blame.

ZSSeg names its proposals so (Table 6; by the class of largest overlap in the paper, "hard", and by IoU in the code,
"soft"), S-Seg the parts of its pseudo-masks (Table 1), each by the class of most of its pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lexiseg import catalog, settings
from lexiseg.benchmarks import _benchmark
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.data.labelled.labels import Png
from lexiseg.errors import DataError, SettingError, UnknownName
from lexiseg.evaluation.counting import Answer, Counting, Keep, Progress, count
from lexiseg.evaluation.evaluate import finish
from lexiseg.evaluation.pipeline import Item
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.subject import Model, prepare
from lexiseg.inference.upsample import axes
from lexiseg.metrics.oracle import ASSIGNMENTS, label_proposals, label_segments
from lexiseg.proposals._proposals import Proposer
from lexiseg.segmenter import MaskScores

__all__ = ["oracle"]

Array = NDArray[Any]
NOWHERE = Keep()


@dataclass(frozen=True)
class MaskFolder:
    """Masks on disk: KEY.png has the number of a part at every pixel, KEY.npz has "masks" [N, H, W], 0-1 or boolean."""

    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        return {"model": f"oracle of {self.folder}", "settings": {}}

    def __call__(self, item: Item) -> tuple[str, Array]:
        """("segments", parts [H, W]) or ("masks", [N, H, W]); raises `DataError` for masks that are not there."""
        if (path := self.folder / f"{item.key}.npz").is_file():
            return "masks", _stored_masks(path)
        path = self.folder / f"{item.key}.png"
        if not path.is_file():
            raise DataError(f"{self.folder} has no masks for {item.key}; put them at {item.key}.png or {item.key}.npz")
        return "segments", np.asarray(Png(path).ids())


@dataclass(frozen=True, eq=False)
class ModelMasks:
    """The masks that a model makes of a photograph, whatever it would call them."""

    subject: Any

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
    masks: str | os.PathLike[str],
    benchmark: str,
    *,
    data: str | os.PathLike[str],
    assign: str = "hard",
    split: str | None = None,
    options: Mapping[str, str] | None = None,
    limit: int | None = None,
    boundary: bool = False,
    allow_skipped: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **changes: Any,
) -> Result:
    """Scores masks that are named by the ground truth.

    masks: a folder with a file for each image, see `MaskFolder`; or the name of a proposer (`lexiseg list proposals`)
        or of a model whose masks are taken.
    assign: "hard" or "soft", for masks that may overlap; see `metrics.oracle`. Parts are always assigned hard.

    The other arguments are those of `evaluate`. Raises what it raises, and `DataError` for masks that are not there.
    """
    if assign not in ASSIGNMENTS:
        raise UnknownName("assignment", assign, ASSIGNMENTS)
    opened, source = _source(masks, benchmark, data, split, options or {}, device, dtype, changes)
    counting = Counting(limit=limit, boundary=boundary, allow_skipped=allow_skipped)
    facts = {
        **source.facts,
        "benchmark": opened.facts,
        "protocol": {"name": "oracle", "assign": assign, "average": "present_or_predicted"},
        "counting": counting.facts,
    }
    keep = Keep(None if out is None else Path(out), resume, overwrite)
    if (found := keep.finished(facts)) is not None:
        return found

    def label(items: Iterator[Item]) -> Iterator[Answer]:
        for item in items:
            yield Answer(item, _named(source, item, len(opened.names), assign))

    tallies, profile = count(opened, label, counting, facts=facts, keep=keep, progress=progress)
    return finish(opened, facts, tallies, profile, [], keep=keep)


def _source(
    masks: str | os.PathLike[str],
    benchmark: str,
    data: str | os.PathLike[str],
    split: str | None,
    options: Mapping[str, str],
    device: str,
    dtype: str,
    changes: Mapping[str, Any],
) -> tuple[Opened, MaskFolder | ModelMasks | ProposerMasks]:
    from lexiseg.catalog import DESCRIPTION

    folder = Path(masks)
    if os.fspath(masks) in catalog.names("proposals"):
        module = catalog.get("proposals", os.fspath(masks))
        config = settings.change(module.Config(), changes)
        opened = _benchmark.open(benchmark, data, split=split, **options)
        return opened, ProposerMasks(os.fspath(masks), config, module.load(config))
    if folder.is_dir() and not (folder / DESCRIPTION).is_file():
        return _benchmark.open(benchmark, data, split=split, **options), MaskFolder(folder)
    model = Model(os.fspath(masks), device=device, dtype=dtype, changes=changes)
    subject = prepare(model, benchmark, data, split=split, options=options)
    return subject.opened, ModelMasks(subject)


def _named(source: Callable[[Item], tuple[str, Array]], item: Item, classes: int, assign: str) -> Array:
    """The label map of an item's masks, each with its right class."""
    if item.truth is None:  # a placeholder, whose labels nobody counts
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
