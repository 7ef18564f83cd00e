"""Finds out what a recipe would cost before anything is spent."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lexiseg import settings
from lexiseg.errors import OutputError
from lexiseg.training import random_state, stages
from lexiseg.training.building import Build, build
from lexiseg.training.contracts import DataSource
from lexiseg.training.distributed import processes
from lexiseg.training.recipe import Labelling, Recipe, Stage
from lexiseg.training.trainer import Trainer, open_data

__all__ = ["DryRun", "LabellingCost", "TrainingCost", "dry_run"]

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class TrainingCost:
    """What one stage of training would cost."""

    trained: int  # parameters
    frozen: int  # parameters
    steps: int
    samples: int  # steps times batch size
    epochs: float
    model_bytes: int  # weights, gradients, moments and averages
    peak_bytes: int  # of a real step: on a GPU what torch allocated, on a CPU the whole process
    checkpoint_bytes: int
    seconds_per_step: float  # a median over few steps
    data: dict[str, Any]  # the manifest

    @property
    def seconds(self) -> float:
        return self.seconds_per_step * self.steps

    def lines(self) -> list[str]:
        return [
            f"parameters  {self.trained:,} trained, {self.frozen:,} frozen",
            f"steps       {self.steps:,}, {self.samples:,} samples, {self.epochs:.2f} epochs",
            f"memory      {_size(self.model_bytes)} for the model, {_size(self.peak_bytes)} at the peak",
            f"time        {self.seconds_per_step:.3g} s a step, about {timedelta(seconds=round(self.seconds))}",
        ]


@dataclass(frozen=True)
class LabellingCost:
    """What a stage that writes label maps would work on; how long that takes is not measured."""

    photographs: int
    data: dict[str, Any]  # the manifest
    seconds: float = 0.0

    def lines(self) -> list[str]:
        return [f"photographs {self.photographs:,} to be labelled"]


@dataclass(frozen=True)
class DryRun:
    """The cost of all stages, and whether there is room for the checkpoints."""

    out: Path
    stages: tuple[TrainingCost | LabellingCost, ...]
    disk_bytes: int  # needed for checkpoints and model
    free_bytes: int

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def lines(self) -> list[str]:
        """The report, a line for each fact."""
        lines = []
        for number, stage in enumerate(self.stages, start=1):
            lines += [f"stage {number} of {len(self.stages)}"] if len(self.stages) > 1 else []
            lines += stage.lines()
        return [*lines, f"disk        {_size(self.disk_bytes)} needed, {_size(self.free_bytes)} free at {self.out}"]


def dry_run(
    recipe: Stage | Sequence[Stage], out: str | os.PathLike[str], *, build: Build = build, steps: int = 3
) -> DryRun:
    """Checks every path, builds everything, and takes a few real steps that are thrown away; writes nothing to `out`.

    steps: to measure, after one to warm up.

    Raises whatever `train` would: `DataError` for a path that is missing, `OutputError` for a folder that cannot be
    written or has no room, `WeightsError`, `SettingError`.
    """
    planned = [_without_labels_to_come(stage) for stage in stages.as_stages(recipe)]
    last = planned[-1]
    assert isinstance(last, Recipe), "as_stages checks it"
    free = _free(Path(out))
    with processes(last) as accelerator, tempfile.TemporaryDirectory() as scratch:
        sources = [_open(stage, accelerator) for stage in planned]  # all of them before any model is built
        measured: list[TrainingCost | LabellingCost] = []
        for number, source in enumerate(sources):
            measured.append(_measure_stage(planned, number, source, build, steps, Path(scratch)))
    needed = max(
        found.checkpoint_bytes * (stage.keep + 1)  # the new one is complete before the oldest one goes
        for found, stage in zip(measured, planned, strict=True)
        if isinstance(found, TrainingCost) and isinstance(stage, Recipe)
    )
    if needed > free:
        raise OutputError(
            f"{out} has {_size(free)} free, and the checkpoints need {_size(needed)}; free space or keep fewer"
        )
    return DryRun(Path(out), tuple(measured), needed, free)


def _without_labels_to_come(stage: Stage) -> Stage:
    """Label maps that an earlier stage is going to write are not there to be read."""
    labels = getattr(stage.data, "pseudo_labels", None) or ""
    return settings.change(stage, {"data.pseudo_labels": None}) if labels.startswith(stages.SIGN) else stage


def _open(stage: Stage, accelerator: Any) -> DataSource:
    if isinstance(stage, Recipe):
        return open_data(stage, accelerator)
    return stage.data.open(batch_size=1, seed=0, max_bad_fraction=0.0)


def _measure_stage(
    planned: Sequence[Stage], number: int, source: DataSource, build: Build, steps: int, scratch: Path
) -> TrainingCost | LabellingCost:
    """scratch: where later stages find the untrained model of this one."""
    if isinstance(planned[number], Labelling):
        return LabellingCost(source.samples_per_epoch, source.manifest())
    stage = stages.resolve(planned, number, scratch)
    assert isinstance(stage, Recipe), "resolving changes no kind"
    save = stages.place_of(planned, number, scratch) if stages.is_needed(planned, number) else None
    return _measure(stage, source, build, steps, save)


def _measure(recipe: Recipe, source: DataSource, build: Build, steps: int, save: Path | None) -> TrainingCost:
    with processes(recipe) as accelerator:
        random_state.seed(recipe.seed, rank=0)
        built = build(recipe)
        objective = built.objective
        if save is not None:
            save.mkdir(parents=True)
            built.save(save)
        trainer = Trainer(recipe, objective, source=source, accelerator=accelerator)
        seconds = _seconds_per_step(trainer, steps)
        saved = trainer.checkpoint()
    trained, frozen = (_parameters(objective, trained=which) for which in (True, False))
    kept = 2 + (recipe.ema is not None)  # weights, gradients, averages
    moments = sum(tensor.nbytes for tensor in saved.tensors["optimiser"].values() if tensor.ndim)  # and no counters
    return TrainingCost(
        trained=trained,
        frozen=frozen,
        steps=recipe.steps,
        samples=recipe.steps * recipe.batch_size,
        epochs=recipe.steps * recipe.batch_size / source.samples_per_epoch,
        model_bytes=_FLOAT * (trained * kept + frozen) + moments,
        peak_bytes=_peak(),
        checkpoint_bytes=sum(t.nbytes for tensors in saved.tensors.values() for t in tensors.values()),
        seconds_per_step=seconds,
        data=source.manifest(),
    )


def _seconds_per_step(trainer: Trainer, steps: int) -> float:
    """The median of real steps, data included, without the first one."""
    times = []
    last = time.perf_counter()
    for batch, position in islice(trainer.stream(), min(steps + 1, trainer.recipe.steps)):
        trainer.take_step(batch)
        trainer.position = position
        times.append(time.perf_counter() - last)
        last = time.perf_counter()
    measured = sorted(times[1:] or times)
    return measured[len(measured) // 2]


def _free(out: Path) -> int:
    """Bytes free where `out` is or will be; raises `OutputError` where nothing can be written there."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise OutputError(f"{there} is not a folder that can be written; choose another place for {out}")
    return shutil.disk_usage(there).free


def _parameters(objective: nn.Module, *, trained: bool) -> int:
    return sum(each.numel() for each in objective.parameters() if each.requires_grad == trained)


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if os.uname().sysname == "Darwin" else 1024  # getrusage counts bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
