"""Holds everything that an experimenter edits about a run.

That is a Recipe, or several as stages.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lexiseg import settings
from lexiseg.errors import SettingError, UnknownName
from lexiseg.settings import Dataclass
from lexiseg.training.contracts import DataDescription, ObjectiveDescription

__all__ = [
    "Group",
    "Labelling",
    "Optimiser",
    "Recipe",
    "Schedule",
    "Stage",
    "change",
    "check",
    "describe",
    "differences",
    "knows",
]


@dataclass(frozen=True)
class Optimiser:
    """AdamW (decoupled weight decay), SGD with momentum, or Muon for matrices beside AdamW for the rest."""

    name: Literal["adamw", "sgd", "muon"] = "adamw"
    rate: float = 1e-3  # learning rate at the top of the schedule
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)  # adamw, and beside muon
    epsilon: float = 1e-8  # the same
    momentum: float = 0.9  # sgd

    def __post_init__(self) -> None:
        for name in ("rate", "weight_decay", "epsilon"):
            value = getattr(self, name)
            settings.require(0 <= value < math.inf, f"optimiser.{name}", "0 or more", value)
        for name, value in (("betas", max(self.betas)), ("betas", min(self.betas)), ("momentum", self.momentum)):
            settings.require(0 <= value < 1, f"optimiser.{name}", "0 or more and below 1", getattr(self, name))


@dataclass(frozen=True)
class Group:
    """A rule for the parameters whose name a glob matches.

    All rules are applied in order; a later one overrides what an earlier one said, and None says nothing.
    """

    names: tuple[str, ...]  # globs: "*.bias", "segmenter.text.*"
    rate: float | None = None  # times the optimiser's rate
    weight_decay: float | None = None
    frozen: bool | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "weight_decay"):
            value = getattr(self, name)
            settings.require(value is None or 0 <= value < math.inf, f"groups.{name}", "0 or more", value)


@dataclass(frozen=True)
class Schedule:
    """The factor on the learning rate, by step: from 0 to 1 in a straight line, then down to `floor`."""

    name: Literal["constant", "cosine", "poly"] = "cosine"
    warmup: float = 0.0  # fraction of the steps, 0-1
    floor: float = 0.0  # fraction of the rate at the last step, 0-1
    power: float = 0.9  # poly

    def __post_init__(self) -> None:
        for name in ("warmup", "floor"):
            value = getattr(self, name)
            settings.require(0 <= value <= 1, f"schedule.{name}", "a fraction, 0 to 1", value)
        settings.require(0 <= self.power < math.inf, "schedule.power", "0 or more", self.power)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run, or one stage of it. What has no default is the experiment.

    "@NAME" in `weights` or `teacher` is the model that the stage called NAME has saved before.

    >>> from dataclasses import replace
    >>> from lexiseg.recipes.simseg import TOY  # a Recipe
    >>> short = replace(TOY, steps=5, optimiser=replace(TOY.optimiser, rate=1e-4))
    >>> short.model, short.steps, short.batch_size
    ('simseg/custom', 5, 32)
    """

    name: str = ""  # of the stage, for later ones to refer to; empty: "stage-1" and so on

    # what is trained
    model: str  # "method/variant"
    config: Dataclass | None = None  # the method's frozen Config; None: the variant's own
    weights: str | None = None  # hub id, folder, file or "@NAME" to start from; None: the variant's own
    from_scratch: bool = False  # random weights, whatever the variant names
    carry: bool = True  # start with the weights that the stage before ended with, by name, unless `weights` is "@NAME"
    objective: ObjectiveDescription  # what is minimised; frozen
    teacher: str | None = None  # "method/variant", folder or "@NAME", for objectives that learn from another model
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)  # for `catalog.load`: preset, key_smoothing ...

    # on what, how long
    data: DataDescription  # frozen
    steps: int
    batch_size: int  # samples in a step, over all processes
    seed: int = 0
    max_bad_fraction: float = 0.01  # of the samples, 0-1: broken ones are skipped until there are more than this

    # how
    optimiser: Optimiser = Optimiser()
    groups: tuple[Group, ...] = ()
    schedule: Schedule = Schedule()
    precision: Literal["fp32", "bf16", "fp16", "bf16_weights"] = "fp32"  # see `forward.Forward`
    accumulate: int = 1  # pieces that each process's part of a batch is cut into, each with a loss of its own
    cache: int | None = None  # samples in a piece of gradient caching; None: off
    clip: float | None = None  # norm of all gradients together
    ema: float | None = None  # decay of the averaged weights, which are then the result
    batchnorm_batches: int = 0  # batches to measure the statistics of the averaged weights with, at the end
    unused_parameters: bool = False  # some trained parameters get no gradient in some steps (many processes only)

    # what is kept and measured
    checkpoint_every: int = 500  # steps
    keep: int = 2  # checkpoints
    log_every: int = 20  # steps
    evaluate_every: int | None = None  # steps
    max_nonfinite: int = 10  # steps skipped for a loss or gradient that is not finite, before the run stops
    benchmarks: tuple[str, ...] = ()  # names of benchmarks/ to report

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "keep", "log_every"):
            _require(self, name, getattr(self, name) >= 1, "give 1 or more")
        for name in ("cache", "evaluate_every"):
            _require(self, name, getattr(self, name) is None or getattr(self, name) >= 1, "give 1 or more, or none")
        _require(self, "ema", self.ema is None or 0 <= self.ema < 1, "give a decay from 0 up to, not including, 1")
        _require(self, "clip", self.clip is None or self.clip > 0, "give a norm above 0, or none")
        _require(self, "max_bad_fraction", 0 <= self.max_bad_fraction <= 1, "give a fraction, 0 to 1")
        _require(self, "max_nonfinite", self.max_nonfinite >= 0, "give 0 or more")


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """A stage between others: a model writes label maps for the photographs that a later stage trains on.

    That stage reads them where its data says `pseudo_labels="@NAME"`.

    teacher: "method/variant", a folder, or "@NAME" for the model of an earlier stage.
    teacher_settings: for `lexiseg.load`: preset, key_smoothing ...
    data: photographs, the classes they are labelled with, and which labels are known, as a later stage describes them.
    confidence: pixels whose class has a smaller posterior (0-1) among those that may be there stay unlabelled.
    prior: None asks the teacher about the classes alone that unlabelled pixels may have. A number asks it about all
        classes, and multiplies what it says of the others by this (0-1): with 0 they never win, yet the teacher has
        compared with them.
    keep_seen: known labels are written too, and the teacher labels the other pixels alone.
    """

    name: str
    teacher: str
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    data: DataDescription
    confidence: float | None = None
    prior: float | None = None
    keep_seen: bool = True

    def __post_init__(self) -> None:
        if not 0 <= (self.confidence or 0) <= 1:
            raise SettingError(f"confidence is {self.confidence}; give a posterior, 0 to 1")
        if not 0 <= (self.prior or 0) <= 1:
            raise SettingError(f"prior is {self.prior}; give a factor, 0 to 1, or none")


Stage = Recipe | Labelling

# changing these cannot change the weights that come out
_HARMLESS = {
    "benchmarks",
    "checkpoint_every",
    "evaluate_every",
    "keep",
    "log_every",
    "max_bad_fraction",
    "max_nonfinite",
}


AnyStage = TypeVar("AnyStage", bound=Stage)


def change(stage: AnyStage, changes: Mapping[str, Any]) -> AnyStage:
    """The stage with settings changed by name, as `--set` gives them.

    A name that the stage itself lacks is looked for in its `objective`, `data` and `config`, so that "guided" can stand
    for "objective.guided". Raises `UnknownName` and `SettingError` as `lexiseg.settings.change` does, and
    `SettingError` for a name that two of them have.
    """
    full = {_full_key(stage, key): value for key, value in changes.items()}
    if any(key.startswith("config.") for key in full):
        stage = _with_config(stage)
    return settings.change(stage, full)


def knows(stage: Stage, key: str) -> bool:
    """Whether `change` would find a setting; raises `SettingError` for a name that two parts have."""
    try:
        _full_key(stage, key)
    except UnknownName:
        return False
    return True


def check(recipe: Recipe, *, world: int = 1, contrastive: bool = True) -> None:
    """Raises `SettingError` for settings that do not go together, with `world` processes."""
    share, rest = divmod(recipe.batch_size, world)
    if rest:
        raise SettingError(f"batch_size {recipe.batch_size} cannot be shared by {world} processes; give a multiple")
    if recipe.accumulate > share:
        raise SettingError(
            f"accumulate {recipe.accumulate} is more than the {share} samples that a process has; give less"
        )
    if recipe.cache is not None and recipe.accumulate > 1:
        raise SettingError(f"cache {recipe.cache} and accumulate {recipe.accumulate} exclude each other; drop one")
    if recipe.cache is not None and not contrastive:
        raise SettingError(
            f"cache {recipe.cache} needs an objective with embed() and loss(), which {recipe.model}'s is not; "
            "use accumulate"
        )
    if recipe.batchnorm_batches and recipe.ema is None:
        raise SettingError(f"batchnorm_batches {recipe.batchnorm_batches} is for averaged weights; set ema, or give 0")


def describe(value: Any) -> Any:
    """A recipe, or anything in it, as plain JSON; dataclasses carry their class's name as "kind"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): describe(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def differences(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    """What changed between two described tuples of stages and could change the result: "steps: 100 -> 200"."""
    before, after = _flat(list(old)), _flat(list(new))
    changed = [
        key for key in [*before, *(key for key in after if key not in before)] if before.get(key) != after.get(key)
    ]
    several = max(len(old), len(new)) > 1
    lines = []
    for key in changed:
        stage, _, name = key.partition(".")
        if name.partition(".")[0] in _HARMLESS or "workers" in name.split("."):
            continue
        label = f"stage {int(stage) + 1} {name}" if several else name
        lines.append(f"{label}: {before.get(key, 'absent')!r} -> {after.get(key, 'absent')!r}")
    return lines


def _require(recipe: Recipe, name: str, holds: bool, advice: str) -> None:
    if not holds:
        value = recipe
        for part in name.split("."):
            value = getattr(value, part)
        raise SettingError(f"{name} is {value!r}; {advice}")


def _full_key(stage: Stage, key: str) -> str:
    """The key with the part of the stage that has it: "objective.guided"."""
    head = key.partition(".")[0]
    if head in _fields(stage):
        return key
    whole = _with_config(stage)
    parts = {name: getattr(whole, name) for name in ("objective", "data", "config") if hasattr(whole, name)}
    found = [f"{name}.{key}" for name, part in parts.items() if head in _fields(part)]
    if not found:
        raise UnknownName("setting", key, settings.names(whole))
    if len(found) > 1:
        raise SettingError(f"there are several settings {key!r}; write {' or '.join(found)}")
    return found[0]


def _fields(value: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()


def _with_config(stage: AnyStage) -> AnyStage:
    """The variant's own config written out, so that its fields can be changed."""
    if isinstance(stage, Labelling) or stage.config is not None:
        return stage
    from lexiseg import catalog

    _, variant = catalog.resolve(stage.model, weights=stage.weights)
    return dataclasses.replace(stage, config=variant.config)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items: list[tuple[str, Any]] = list(value.items())
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat.update(_flat(inner, f"{prefix}.{key}" if prefix else key))
    return flat
