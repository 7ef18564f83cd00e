"""Trains a recipe, or several as stages, to a saved model.

It starts from wherever the run stands.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from lexiseg.errors import CheckpointError, OutputError, SettingError
from lexiseg.provenance import write_run
from lexiseg.training import checkpoint, random_state, stages
from lexiseg.training.building import Build, Built, build
from lexiseg.training.checkpoint import Checkpoint
from lexiseg.training.contracts import DataSource, Evaluate
from lexiseg.training.distributed import processes, total
from lexiseg.training.random_state import RandomState
from lexiseg.training.recipe import Labelling, Recipe, Stage, describe, differences
from lexiseg.training.reporting import Means, Reporter, Silent
from lexiseg.training.signals import StopSignals
from lexiseg.training.stages import Label
from lexiseg.training.trainer import Trainer, open_data

__all__ = ["Run", "train"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What came out of `train`.

    finished: whether the last step of the last stage is done; otherwise it was asked to stop, and `resume` goes on.
    model: the saved folder, which `lexiseg.load` reads, once finished.
    """

    out: Path
    finished: bool
    stage: int  # from 0
    step: int = 0  # done in this stage
    losses: dict[str, float] = field(default_factory=dict)  # of the last step of this session
    nonfinite: int = 0  # steps skipped in this stage
    skipped: dict[str, int] = field(default_factory=dict)  # samples that could not be used in this session, by reason
    model: Path | None = None
    stopped_by: str | None = None  # "SIGINT" or "SIGTERM"


def train(
    recipe: Stage | Sequence[Stage],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    allow_changes: bool = False,
    evaluate: Evaluate | None = None,
    label: Label | None = None,
    build: Build = build,
    tensorboard: bool = True,
) -> Run:
    """Trains, with a checkpoint whenever one is due, and saves the model as `out`/model.

    recipe: one, or several as stages; each starts from the weights of the one before, and each but the last saves its
        model as `out`/NAME/model. A `Labelling` between them writes label maps to `out`/NAME/labels.
    resume: go on from the newest whole checkpoint in `out`; on a CPU the result is the same to the byte as without
        the interruption. An empty folder is fine too, so a job may always ask for it.
    allow_changes: resume although the recipe has changed.
    evaluate: called every `evaluate_every` steps and at the end of each stage.
    label: called for each `Labelling`; `lexiseg.evaluation.pseudo_labels.label`, say.
    build: makes the objective of a recipe.

    SIGTERM and SIGINT end it after the current step, saved. Raises `OutputError` for a folder that holds a run
    already, `CheckpointError` for one that cannot be saved or resumed, `TrainingError` where training breaks down,
    `MissingDependency` without accelerate, and what models and data raise.

    >>> import lexiseg
    >>> from dataclasses import replace
    >>> from lexiseg.recipes.simseg import TOY
    >>> run = lexiseg.train(replace(TOY, steps=2), "runs/toy")
    >>> run.finished, run.step
    (True, 2)
    >>> model = lexiseg.load(run.model)
    """
    given = stages.as_stages(recipe)
    if label is None and any(isinstance(stage, Labelling) for stage in given):
        raise SettingError("one of the stages is a Labelling; pass label=lexiseg.evaluation.pseudo_labels.label")
    last = given[-1]
    assert isinstance(last, Recipe), "as_stages checks it"
    with processes(last) as accelerator, StopSignals() as stop:
        session = _Session(given, Path(out), evaluate, label, build, tensorboard, stop, allow_changes)
        saved = session.find(accelerator, resume=resume)
        for number in range(0 if saved is None else saved.stage, len(given)):
            here = saved if saved is not None and saved.stage == number else None
            run = session.run(number, here, accelerator)
            if not run.finished:
                break
    return run


@dataclass
class _Session:
    """One call of `train`."""

    stages: tuple[Stage, ...]
    out: Path
    evaluate: Evaluate | None
    label: Label | None
    build: Build
    tensorboard: bool
    stop: StopSignals
    allow_changes: bool
    data: str = ""  # hash of the manifest of this stage's data
    carried: dict[str, Tensor] = field(default_factory=dict)  # the weights that the last trained stage ended with

    def find(self, accelerator: Any, *, resume: bool) -> Checkpoint | None:
        """The checkpoint to go on from, if any, chosen by the main process for all."""
        from accelerate.utils import broadcast_object_list

        folder = self.out / "checkpoints"
        if not resume and (steps := checkpoint.steps_saved(folder)):
            raise OutputError(
                f"{self.out} holds a run already, at step {steps[-1][1]}; resume it, or choose another folder"
            )
        saved = checkpoint.newest(folder) if accelerator.is_main_process else None
        (name,) = broadcast_object_list([None if saved is None else saved.name])
        if saved is None and name is not None:
            saved = checkpoint.read(folder / name)
        if saved is not None:
            self._allow("recipe", differences(saved.state["recipes"], describe(self.stages)))
            if saved.stage >= len(self.stages):
                raise CheckpointError(
                    f"{self.out} stands in stage {saved.stage + 1} and there are {len(self.stages)} now; give all"
                )
        return saved

    def run(self, number: int, saved: Checkpoint | None, accelerator: Any) -> Run:
        """Takes one stage to its end, or until a signal."""
        stage = stages.resolve(self.stages, number, self.out)
        if isinstance(stage, Labelling):
            return self._write_labels(stage, number, accelerator)
        return self._train(stage, number, saved)

    def _write_labels(self, stage: Labelling, number: int, accelerator: Any) -> Run:
        assert self.label is not None, "train checks it"
        place = {"rank": accelerator.process_index, "world": accelerator.num_processes}
        folder = stages.place_of(self.stages, number, self.out)
        random = RandomState.capture()
        self.label(stage, folder, **place, stop=lambda: self.stop.asked is not None)
        random.restore()
        stopped = total(torch.tensor(float(self.stop.asked is not None), device=accelerator.device))
        if stopped:
            _logger.warning("stopped by %s while labelling; resume to go on", self._cause)
            return Run(self.out, finished=False, stage=number, stopped_by=self.stop.asked)
        return Run(self.out, finished=True, stage=number)

    def _train(self, recipe: Recipe, number: int, saved: Checkpoint | None) -> Run:
        with processes(recipe) as accelerator:
            source = open_data(recipe, accelerator)
            self.data = _digest(source)
            random_state.seed(recipe.seed, rank=0)  # all processes build the same weights
            built = self.build(recipe)
            if self._carries(number):
                stages.hand_over(self.carried, built.objective)
            trainer = Trainer(recipe, built.objective, source=source, accelerator=accelerator, stage=number)
            if trainer.sharded and self.evaluate is not None:
                raise SettingError("FSDP cuts the weights into shards, which cannot be evaluated; evaluate afterwards")
            means = Means()
            if saved is not None:
                self._allow("data", _data_differences(saved.state.get("data", self.data), self.data))
                trainer.restore(saved)
                means = Means.from_json(saved.state["means"])
            with contextlib.closing(self._reporter(trainer, source)) as reporter:
                finished = self._fit(trainer, means, reporter)
            model = self._finish(trainer, built) if finished else None
        return Run(
            out=self.out,
            finished=finished,
            stage=number,
            step=trainer.step,
            losses=means.latest,
            nonfinite=trainer.nonfinite,
            skipped=dict(source.skipped),
            model=model,
            stopped_by=None if finished else self.stop.asked,
        )

    def _carries(self, number: int) -> bool:
        """Whether a stage starts with the weights of the one before."""
        stage = self.stages[number]
        assert isinstance(stage, Recipe), "a Labelling has no weights"
        return stage.carry and not (stage.weights or "").startswith(stages.SIGN)

    def _fit(self, trainer: Trainer, means: Means, reporter: Reporter | Silent) -> bool:
        """The step loop. False where a signal ended it."""
        recipe = trainer.recipe
        for batch, position in trainer.stream():
            outcome = trainer.take_step(batch, stop=lambda: self.stop.asked is not None)
            trainer.position = position
            means.add(outcome)
            reporter.step(trainer.step, outcome)
            last = trainer.step == recipe.steps
            if last or _due(trainer.step, recipe.log_every):
                bad = {"nonfinite": trainer.nonfinite, "skipped": sum(trainer.source.skipped.values())}
                reporter.log(trainer.step, {**means.take(), **bad}, samples=recipe.batch_size)
            if self.evaluate is not None and (last or _due(trainer.step, recipe.evaluate_every)):
                self._evaluate(self.evaluate, trainer, reporter)
            if last or outcome.stop or _due(trainer.step, recipe.checkpoint_every):
                self._save(trainer, means)
            if outcome.stop and not last:
                _logger.warning("stopped by %s after step %d, saved; resume to go on", self._cause, trainer.step)
                return False
        return True

    @property
    def _cause(self) -> str:
        return self.stop.asked or "a signal to another process"

    def _evaluate(self, evaluate: Evaluate, trainer: Trainer, reporter: Reporter | Silent) -> None:
        random = RandomState.capture()  # measuring must not change what is trained
        with trainer.result(), torch.no_grad():
            found = evaluate(trainer.objective.segmenter, trainer.step)
        random.restore()
        numbers = {
            f"evaluation/{name}": float(value) for name, value in found.items() if isinstance(value, (int, float))
        }
        reporter.log(trainer.step, numbers)
        reporter.images(
            trainer.step, {name: value for name, value in found.items() if not isinstance(value, (int, float))}
        )

    def _save(self, trainer: Trainer, means: Means) -> None:
        folder = self.out / "checkpoints"
        facts = {"recipes": describe(self.stages), "data": self.data, "means": means.to_json()}
        made = trainer.checkpoint(**facts)
        if trainer.accelerator.is_main_process:
            checkpoint.write(folder, made)
            checkpoint.prune(folder, trainer.recipe.keep)
        trainer.accelerator.wait_for_everyone()

    def _finish(self, trainer: Trainer, built: Built) -> Path | None:
        """Saves the model, and keeps the weights for the next stage."""
        folder = stages.place_of(self.stages, trainer.stage, self.out)
        with trainer.result(final=True):
            if trainer.stage < len(self.stages) - 1:
                self.carried = trainer.weights()
            if trainer.sharded:
                _logger.warning("the weights are in shards: resume in one process without FSDP to save the model")
                return None
            if trainer.accelerator.is_main_process:
                _save_model(built, folder)
        trainer.accelerator.wait_for_everyone()
        return folder

    def _allow(self, what: str, changed: list[str]) -> None:
        """Raises `CheckpointError` where something has changed since the run was saved and may not."""
        if changed and not self.allow_changes:
            raise CheckpointError(
                f"the {what} is not the one that {self.out} was begun with ({'; '.join(changed)}); "
                "undo the change, choose another folder, or allow changes"
            )
        for line in changed:
            _logger.warning("resumed with a changed %s: %s", what, line)

    def _reporter(self, trainer: Trainer, source: DataSource) -> Reporter | Silent:
        """Writes run.json too; in the main process only."""
        if not trainer.accelerator.is_main_process:
            return Silent()
        trained = sum(p.numel() for p in trainer.objective.parameters() if p.requires_grad)
        everything = sum(p.numel() for p in trainer.objective.parameters())
        content = {
            "recipes": describe(self.stages),
            "data": source.manifest(),
            "parameters": {"trained": trained, "frozen": everything - trained},
            "processes": trainer.accelerator.num_processes,
        }
        write_run(self.out, content)
        place = {"stage": trainer.stage, "stages": len(self.stages), "step": trainer.step}
        return Reporter(self.out, **place, steps=trainer.recipe.steps, tensorboard=self.tensorboard)


def _digest(source: DataSource) -> str:
    return hashlib.sha256(json.dumps(source.manifest(), sort_keys=True).encode()).hexdigest()


def _data_differences(saved: str, now: str) -> list[str]:
    return [] if now == saved else [f"its manifest's hash was {saved[:12]} and is {now[:12]}; run.json has the old one"]


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _save_model(built: Built, folder: Path) -> None:
    try:
        with checkpoint.atomic_folder(folder) as temporary:
            built.save(temporary)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the model to {folder}: {error}; free space and resume") from error
