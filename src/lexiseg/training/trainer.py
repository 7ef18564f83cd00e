"""Trainer: one stage's model, optimiser and place in the data; it takes a step, and it saves and restores itself."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.errors import CheckpointError, TrainingError
from lexiseg.training import batches, gradient_cache, optimiser, random_state
from lexiseg.training.checkpoint import Checkpoint
from lexiseg.training.contracts import Batch, DataSource, Position
from lexiseg.training.distributed import check_sharding, full, like, total
from lexiseg.training.ema import Ema, measure_batchnorm
from lexiseg.training.forward import Forward, is_contrastive
from lexiseg.training.random_state import RandomState
from lexiseg.training.recipe import Recipe, check

__all__ = ["Outcome", "Trainer", "open_data"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What happened in a step, the same on every process."""

    losses: dict[str, float]  # means over the processes
    gradient: float  # norm of all gradients together, before clipping
    rate: float  # of the optimiser's first group, over that group's factor
    finite: bool  # otherwise the step was skipped
    stop: bool  # a process was asked to stop
    report: dict[str, float]  # what the objective reports besides, means over the processes

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


class Trainer:
    """Trains `objective` on `source` by one recipe, the `stage`-th of its run.

    accelerator: what `distributed.processes` gives. Raises `SettingError` for settings that do not go together.
    """

    def __init__(
        self, recipe: Recipe, objective: nn.Module, *, source: DataSource, accelerator: Any, stage: int = 0
    ) -> None:
        check(recipe, world=accelerator.num_processes, contrastive=is_contrastive(objective))
        check_sharding(recipe, accelerator)
        optimiser.freeze(objective, recipe.groups)
        self.recipe, self.source, self.accelerator, self.stage = recipe, source, accelerator, stage
        self.objective: Any = objective
        self.step, self.nonfinite = 0, 0
        self.position: Position | None = None
        self._forward = Forward(objective, bf16_weights=recipe.precision == "bf16_weights")
        self._optimiser = optimiser.build(objective, recipe)
        self._model, self._stepper = accelerator.prepare(self._forward, self._optimiser)
        self._ema = None if recipe.ema is None else Ema(self._averaged(), recipe.ema)
        random_state.seed(recipe.seed + stage, rank=accelerator.process_index)

    @property
    def sharded(self) -> bool:
        """Whether no process has whole weights (FSDP)."""
        return bool(self.accelerator.distributed_type == "FSDP")

    def stream(self) -> Iterator[tuple[Batch, Position]]:
        """The batches from the current position on, to the last step; raises `TrainingError` where the data ends."""
        place = {"rank": self.accelerator.process_index, "world": self.accelerator.num_processes}
        with contextlib.closing(self.source.stream(self.position, **place)) as stream:  # type: ignore[type-var]
            for batch, position in islice(stream, self.recipe.steps - self.step):
                yield batches.move(batch, self.accelerator.device), position
        if self.step < self.recipe.steps:
            raise TrainingError(
                f"the data ended after {self.step} of {self.recipe.steps} steps; its stream must not end"
            )

    def take_step(self, batch: Batch, *, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """One step of the optimiser, or none where loss or gradient are not finite; `step` moves on in either case.

        stop: asked at the end, whether this process should stop; the outcome tells all of them.
        """
        self.objective.train()
        self._hook("before_step")
        if hasattr(self.objective, "before_batch"):
            self.objective.before_batch(batch, self._average)
        rate = self.recipe.optimiser.rate * optimiser.factor(self.recipe.schedule, self.step, self.recipe.steps)
        optimiser.set_rate(self._optimiser, rate)
        buffers = {name: buffer.clone() for name, buffer in self._forward.named_buffers()}
        losses = self._backward(batch)
        norm = self.accelerator.clip_grad_norm_(self._model.parameters(), self.recipe.clip or math.inf)
        outcome = self._agree(losses, norm, rate, stop())
        scaled = self.accelerator.scaler is not None
        if outcome.finite or scaled:  # the scaler of fp16 skips by itself, and has to hear of every step
            self._stepper.step()
        if outcome.finite:
            self._hook("after_step")
            if self._ema is not None:
                self._ema.update(self.step)
        else:
            self._refuse(batch, buffers)
        self._stepper.zero_grad()
        self.step += 1
        return outcome

    @contextlib.contextmanager
    def result(self, *, final: bool = False) -> Iterator[None]:
        """Inside the block the objective is in eval mode and has the weights that count: the averaged ones, if any.

        final: measure the statistics of batch normalisation for them, where the recipe says so.
        """
        with contextlib.nullcontext() if self._ema is None else self._ema.applied():
            if final and self.recipe.batchnorm_batches:
                stream = self.source.stream(
                    self.position, rank=self.accelerator.process_index, world=self.accelerator.num_processes
                )
                some = islice(stream, self.recipe.batchnorm_batches)
                measure_batchnorm(self.objective, (batches.move(batch, self.accelerator.device) for batch, _ in some))
            self.objective.eval()
            yield

    def weights(self) -> dict[str, Tensor]:
        """The objective's weights on the CPU, without those it rebuilds; every process must call."""
        return {name: full(tensor) for name, tensor in self._saved().items()}

    def checkpoint(self, **state: Any) -> Checkpoint:
        """All that `restore` needs, and `state` besides; every process must call."""
        from accelerate.utils import gather_object

        tensors = {"weights": self.weights(), "optimiser": self._optimiser_state()}
        if self._ema is not None:
            tensors["average"] = {name: full(tensor) for name, tensor in self._ema.averages.items()}
        own = {
            "position": self.position,
            "nonfinite": self.nonfinite,
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "random": gather_object([RandomState.capture().to_json()]),
        }
        return Checkpoint(self.stage, self.step, tensors, {**own, **state})

    def restore(self, saved: Checkpoint) -> None:
        """Continues where `saved` was taken; raises `CheckpointError` where it does not fit the objective."""
        _copy(saved.tensors["weights"], self._saved(), saved.name)
        optimiser.load_state(self._optimiser, self._names(), saved.tensors.get("optimiser", {}))
        if self._ema is not None:
            _copy({**saved.tensors["weights"], **saved.tensors.get("average", {})}, self._ema.averages, saved.name)
        if self.accelerator.scaler is not None and saved.state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(saved.state["scaler"])
        self.step, self.position = saved.step, saved.state["position"]
        self.nonfinite = saved.state["nonfinite"]
        self._restore_random(saved.state["random"])

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """Adds the gradients of a batch, piece by piece, and returns its named losses."""
        if self.recipe.cache is not None:
            pieces = batches.split(batch, self.recipe.cache)
            return gradient_cache.backward(self._model, self._forward, pieces, self.accelerator)
        count = batches.size(batch)
        pieces = batches.split(batch, math.ceil(count / self.recipe.accumulate))
        losses: dict[str, Tensor] = {}
        for index, piece in enumerate(pieces):
            last, share = index == len(pieces) - 1, batches.size(piece) / count
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self._model):
                for name, loss in self._backward_piece(piece, share).items():
                    losses[name] = losses.get(name, torch.zeros_like(loss)) + loss * share
        return losses

    def _backward_piece(self, piece: Batch, share: float) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self._model(piece)
        self.accelerator.backward(torch.stack(list(losses.values())).sum() * share)
        return {name: loss.detach() for name, loss in losses.items()}

    def _agree(self, losses: dict[str, Tensor], norm: Any, rate: float, stop: bool) -> Outcome:
        """What all processes take the step to have been: the mean loss; not finite or asked to stop if any was."""
        loss = torch.stack([*losses.values()]).float()
        norm = full(norm).to(loss.device)
        report: dict[str, float] = self.objective.report() if hasattr(self.objective, "report") else {}
        # with fp16 the gradient overflows now and then, until the scaler has found its scale
        bad = (
            ~loss.isfinite().all()
            if self.accelerator.scaler is not None
            else ~(loss.isfinite().all() & norm.isfinite())
        )
        told = torch.tensor([*report.values(), float(stop)], device=loss.device)
        *sums, stops, bads = total(torch.cat([loss, told, bad.float()[None]])).tolist()
        means = [value / self.accelerator.num_processes for value in sums]
        named = dict(zip(losses, means[: len(losses)], strict=True))
        reported = dict(zip(report, means[len(losses) :], strict=True))
        return Outcome(named, float(norm), rate, finite=bads == 0, stop=stops > 0, report=reported)

    def _refuse(self, batch: Batch, buffers: dict[str, Tensor]) -> None:
        """Undoes a step that was not finite; raises `TrainingError` once there were too many."""
        with torch.no_grad():
            for name, buffer in self._forward.named_buffers():  # batch normalisation may have seen the NaN
                buffer.copy_(buffers[name])
        self.nonfinite += 1
        _logger.warning("step %d skipped: its loss or gradient is not finite (%s)", self.step, batches.keys(batch))
        if self.nonfinite > self.recipe.max_nonfinite:
            raise TrainingError(
                f"{self.nonfinite} steps had a loss or gradient that is not finite, the last one step {self.step} with "
                f"{batches.keys(batch)}, and max_nonfinite is {self.recipe.max_nonfinite}; look at these samples, "
                "lower the rate, or use precision fp32"
            )

    def _average(self, values: Tensor) -> Tensor:
        """The mean of numbers over the processes."""
        mean: Tensor = total(values.to(self.accelerator.device)) / self.accelerator.num_processes
        return mean

    def _hook(self, name: str) -> None:
        if hasattr(self.objective, name):
            getattr(self.objective, name)(self.step)

    def _saved(self) -> dict[str, Tensor]:
        """The live tensors that belong into a checkpoint, each by its first name."""
        unsaved = getattr(self.objective, "unsaved", ())
        first = {name for name, _ in (*self.objective.named_parameters(), *self.objective.named_buffers())}
        return {
            name: tensor
            for name, tensor in self.objective.state_dict().items()
            if name in first and not any(fnmatchcase(name, pattern) for pattern in unsaved)
        }

    def _averaged(self) -> dict[str, Tensor]:
        fixed = {name for name, parameter in self.objective.named_parameters() if not parameter.requires_grad}
        return {n: tensor for n, tensor in self._saved().items() if tensor.is_floating_point() and n not in fixed}

    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.objective.named_parameters()}

    def _optimiser_state(self) -> dict[str, Tensor]:
        return {name: full(tensor) for name, tensor in optimiser.state(self._optimiser, self._names()).items()}

    def _restore_random(self, states: Sequence[dict[str, Any]]) -> None:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        if len(states) != world:
            _logger.warning(
                "the run was saved by %d processes and goes on with %d: same data, other random numbers",
                len(states),
                world,
            )
        if rank < len(states):
            RandomState.from_json(states[rank]).restore()


def open_data(recipe: Recipe, accelerator: Any) -> DataSource:
    """The recipe's data, of which this process gets its share; raises `SettingError` where it cannot be shared."""
    check(recipe, world=accelerator.num_processes)
    source: DataSource = recipe.data.open(
        batch_size=recipe.batch_size // accelerator.num_processes,
        seed=recipe.seed,
        max_bad_fraction=recipe.max_bad_fraction,
    )
    return source


@torch.no_grad()
def _copy(saved: Any, live: dict[str, Tensor], name: str) -> None:
    missing = [key for key in live if key not in saved or saved[key].shape != live[key].shape]
    if missing:
        raise CheckpointError(
            f"the checkpoint {name} lacks {len(missing)} weights of this model, or has them in another shape "
            f"({', '.join(missing[:3])}); resume with the recipe it was made with"
        )
    for key, tensor in live.items():
        tensor.copy_(like(saved[key], tensor))
