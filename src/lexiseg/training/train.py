"""train: a recipe, or several as stages, from wherever it stands to a saved model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lexiseg.errors import CheckpointError, OutputError, SettingError, TrainingError
from lexiseg.provenance import write_run
from lexiseg.training import checkpoint, random_state
from lexiseg.training.building import Build, Built, build
from lexiseg.training.checkpoint import Checkpoint
from lexiseg.training.contracts import DataSource, Evaluate
from lexiseg.training.distributed import processes
from lexiseg.training.random_state import RandomState
from lexiseg.training.recipe import Recipe, describe, differences
from lexiseg.training.reporting import Means, Reporter, Silent
from lexiseg.training.signals import StopSignals
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
    step: int  # done in this stage
    losses: dict[str, float]  # of the last step of this session
    nonfinite: int  # steps skipped in this stage
    skipped: dict[str, int]  # samples that could not be used in this session, by reason
    model: Path | None = None


def train(
    recipe: Recipe | Sequence[Recipe],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    allow_changes: bool = False,
    evaluate: Evaluate | None = None,
    build: Build = build,
    tensorboard: bool = True,
) -> Run:
    """Trains, with a checkpoint whenever one is due, and saves the model as `out`/model.

    recipe: one, or several as stages; each starts from the weights of the one before.
    resume: go on from the newest whole checkpoint in `out`; on a CPU the result is the same to the byte as without
        the interruption. An empty folder is fine too, so a job may always ask for it.
    allow_changes: resume although the recipe has changed.
    evaluate: called every `evaluate_every` steps and at the end of each stage.
    build: makes the objective of a recipe.

    SIGTERM and SIGINT end it after the current step, saved. Raises `OutputError` for a folder that holds a run
    already, `CheckpointError` for one that cannot be saved or resumed, `TrainingError` where training breaks down,
    `MissingDependency` without accelerate, and what models and data raise.
    """
    recipes = (recipe,) if isinstance(recipe, Recipe) else tuple(recipe)
    if not recipes:
        raise SettingError("there are no stages to train; give a recipe, or several")
    with processes(recipes[0]) as accelerator, StopSignals() as stop:
        session = _Session(recipes, Path(out), evaluate, build, tensorboard, stop, allow_changes)
        saved = session.find(accelerator, resume=resume)
        carried: dict[str, Tensor] = {}
        for stage in range(0 if saved is None else saved.stage, len(recipes)):
            here = saved if saved is not None and saved.stage == stage else None
            run = session.stage(stage, saved=here, carried=carried)
            if not run.finished:
                break
            carried = session.carried
    return run


class _Session:
    """One call of `train`."""

    def __init__(
        self,
        recipes: tuple[Recipe, ...],
        out: Path,
        evaluate: Evaluate | None,
        build: Build,
        tensorboard: bool,
        stop: StopSignals,
        allow_changes: bool,
    ) -> None:
        self.recipes, self.out, self.evaluate, self.build = recipes, out, evaluate, build
        self.tensorboard, self.stop, self.allow_changes = tensorboard, stop, allow_changes
        self.data = ""  # hash of the manifest of this stage's data
        self.carried: dict[str, Tensor] = {}  # the weights that the stage before ended with

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
            self._allow("recipe", differences(saved.state["recipes"], describe(self.recipes)))
            if saved.stage >= len(self.recipes):
                raise CheckpointError(
                    f"{self.out} stands in stage {saved.stage + 1} and there are {len(self.recipes)} now; give all"
                )
        return saved

    def stage(self, stage: int, *, saved: Checkpoint | None, carried: Mapping[str, Tensor]) -> Run:
        """Trains one stage to its end, or until a signal."""
        recipe = self.recipes[stage]
        with processes(recipe) as accelerator:
            source = open_data(recipe, accelerator)
            self.data = _digest(source)
            random_state.seed(recipe.seed, rank=0)  # all processes build the same weights
            built = self.build(recipe)
            hand_over(carried, built.objective)
            trainer = Trainer(recipe, built.objective, source=source, accelerator=accelerator, stage=stage)
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
            stage=stage,
            step=trainer.step,
            losses=means.latest,
            nonfinite=trainer.nonfinite,
            skipped=dict(source.skipped),
            model=model,
        )

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
                cause = self.stop.asked or "a signal to another process"
                _logger.warning("stopped by %s after step %d, saved; resume to go on", cause, trainer.step)
                return False
        return True

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
        facts = {"recipes": describe(self.recipes), "data": self.data, "means": means.to_json()}
        made = trainer.checkpoint(**facts)
        if trainer.accelerator.is_main_process:
            checkpoint.write(folder, made)
            checkpoint.prune(folder, trainer.recipe.keep)
        trainer.accelerator.wait_for_everyone()

    def _finish(self, trainer: Trainer, built: Built) -> Path | None:
        """Carries the weights to the next stage, or saves the model after the last one."""
        with trainer.result(final=True):
            if trainer.stage < len(self.recipes) - 1:
                self.carried = trainer.weights()
                return None
            if trainer.sharded:
                _logger.warning("the weights are in shards: resume in one process without FSDP to save the model")
                return None
            folder = self.out / "model"
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
            "recipes": describe(self.recipes),
            "data": source.manifest(),
            "parameters": {"trained": trained, "frozen": everything - trained},
            "processes": trainer.accelerator.num_processes,
        }
        write_run(self.out, content)
        place = {"stage": trainer.stage, "stages": len(self.recipes), "step": trainer.step}
        return Reporter(self.out, **place, steps=trainer.recipe.steps, tensorboard=self.tensorboard)


def hand_over(carried: Mapping[str, Tensor], objective: nn.Module) -> None:
    """Copies the weights of the stage before, by name; what only one of the two has is left alone, and logged.

    Raises `TrainingError` for weights of another shape.
    """
    own = objective.state_dict()
    shared = [name for name in own if name in carried]
    for name in shared:
        if carried[name].shape != own[name].shape:
            raise TrainingError(
                f"{name} is {list(carried[name].shape)} after the stage before, and here {list(own[name].shape)}; "
                "give both stages the same model"
            )
    for name in shared:
        own[name].copy_(carried[name])
    if carried and (fresh := sorted(own.keys() - carried.keys())):
        _logger.info("%d weights are new in this stage: %s", len(fresh), ", ".join(fresh[:5]))


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
