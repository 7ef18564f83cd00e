"""States what the trainer asks of objectives, data and callbacks; they satisfy it by shape, without importing this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from lexiseg.settings import Dataclass

if TYPE_CHECKING:
    from lexiseg.segmenter import Teacher

__all__ = [
    "Batch",
    "ContrastiveObjective",
    "DataDescription",
    "DataSource",
    "Evaluate",
    "Objective",
    "ObjectiveDescription",
    "Position",
]

Batch = Mapping[str, Any]
"""Tensors [B, ...] and lists of length B by name. "keys" is a list of B strings that name the samples in the log."""

Position = Mapping[str, Any]
"""A place in a stream of batches, as JSON values."""


class Objective(Protocol):
    """A `torch.nn.Module`: a batch in, named losses out. The trainer minimises their sum.

    The objective applies the weights of its losses. Each loss is a mean over the batch, so that the trainer may average
    pieces of a batch, in proportion to their samples, and processes. A loss that is a mean over something else (pixels
    with a label, masks) is such a mean only where all pieces have as many of these; an objective whose loss must not
    depend on the pieces counts them in `before_batch` and divides by what the whole step has, as
    `losses/mask_teaching` does with its masks.

    Seven things are optional:

    before_step(step), after_step(step)
        called around each step with its number, which counts from 0 and survives a resume. A switch between phases
        belongs in the first, a clamp of a parameter in the second.
    before_batch(batch, average)
        called after `before_step` with this process's whole batch, before any piece of it. `average` takes a tensor of
        numbers and returns its mean over the processes; every process must call it as often.
    report()
        numbers about the step that was just taken, by name, to be logged beside the losses. Each log line has their
        means over the steps since the line before, and over the processes. The names are the same in every step.
    unsaved
        a tuple of globs over names of weights that are rebuilt from the recipe and kept out of checkpoints: a frozen
        teacher's, say.
    export()
        the segmenter to save at the end, where it is not simply `segmenter`.
    inference(inference)
        the `Inference` to save with it, made of the variant's own; a student may take over its teacher's prompts.
    """

    segmenter: Any

    def __call__(self, batch: Batch) -> dict[str, Tensor]: ...


class ContrastiveObjective(Objective, Protocol):
    """An objective whose samples are each other's negatives.

    The trainer calls `embed` and `loss` in place of the objective itself. Between the two it gathers the embeddings
    of all processes, and it caches gradients where the recipe asks for that. A loss of each sample alone may travel
    as one more embedding [B], whose mean `loss` takes.
    """

    def embed(self, batch: Batch) -> tuple[Tensor, ...]:
        """Tensors [B, ...] of one row per sample, which depend on that sample only."""
        ...

    def loss(self, *embeddings: Tensor) -> dict[str, Tensor]:
        """Named losses of embeddings in fp32, of the global batch in the order of the processes."""
        ...


class ObjectiveDescription(Dataclass, Protocol):
    """A frozen dataclass that says what is minimised; `Recipe.objective` holds one.

    A method's file has one for each thing that it trains; where there is a single one it is called `Training`.
    """

    def build(self, segmenter: Any, *, teacher: Teacher | None = None) -> Any:
        """The `Objective`, a module, that trains `segmenter`.

        teacher: None where the recipe names none.

        Raises `SettingError` where the two, or one of them and the settings, do not go together.
        """
        ...


class DataSource(Protocol):
    """Data in an order that is a function of the seed and the epoch alone; `lexiseg.data.loader.Loader` is one."""

    @property
    def samples_per_epoch(self) -> int: ...

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many samples could not be used, by reason."""
        ...

    def stream(self, position: Position | None, *, rank: int, world: int) -> Iterator[tuple[Batch, Position]]:
        """This process's part of every batch and the position after it, without end; None starts at the first sample.

        The parts of processes 0 to `world` - 1, laid end to end, are the batch that one process would get.
        """
        ...

    def manifest(self) -> dict[str, Any]:
        """Which data this is, as JSON: counts and hashes."""
        ...


class DataDescription(Dataclass, Protocol):
    """A frozen dataclass that says which data and how it is transformed; `Recipe.data` holds one."""

    def open(self, *, batch_size: int, seed: int, max_bad_fraction: float) -> DataSource:
        """Checks that everything is there and raises `DataError` otherwise.

        batch_size: samples in a batch of one process.
        max_bad_fraction: of the samples, 0-1; when more had to be skipped the stream raises `DataError`.
        """
        ...


class Evaluate(Protocol):
    """Called every `Recipe.evaluate_every` steps, on every process, with the averaged weights where there are any."""

    def __call__(self, segmenter: Any, step: int) -> Mapping[str, Any]:
        """Numbers, which are logged as scalars, and images (PIL or uint8 [H, W, 3]), which TensorBoard shows."""
        ...
