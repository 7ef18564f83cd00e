"""Names the stages of a run, and links them.

Each is given what it needs of earlier ones.

runs/a/first/model      what the stage called "first" trained; "@first" in a later stage's `weights` or `teacher`
runs/a/guess/labels     what the `Labelling` called "guess" wrote; "@guess" in a later stage's `data.pseudo_labels`
runs/a/model            what the last stage trained
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn

from lexiseg import settings
from lexiseg.errors import CheckpointError, SettingError, TrainingError, UnknownName
from lexiseg.training import recipe as recipes
from lexiseg.training.recipe import Labelling, Recipe, Stage

__all__ = [
    "Label",
    "as_stages",
    "change",
    "check",
    "hand_over",
    "is_needed",
    "name_of",
    "place_of",
    "resolve",
    "versions",
]

_logger = logging.getLogger(__name__)

SIGN = "@"  # before the name of a stage
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_TAKEN = ("checkpoints", "metrics.jsonl", "model", "run.json", "tensorboard")  # in a run's folder


class Label(Protocol):
    """Called for a stage that is a `Labelling`, on every process; `lexiseg.evaluation.pseudo_labels.label` is one."""

    def __call__(
        self, stage: Labelling, folder: Path, *, rank: int, world: int, stop: Callable[[], bool]
    ) -> Mapping[str, Any]:
        """Writes the label maps of this process's photographs, one in `world`, into `folder`, and says how many.

        A call after an interruption goes on where the earlier one ended.

        stage: with folders in the place of "@NAME".
        stop: asked after each photograph, whether to return early.
        """
        ...


def versions(module: ModuleType) -> dict[str, tuple[Stage, ...]]:
    """The recipes in a file of `recipes/` by their names in lower case, each as its stages."""
    found = {name.lower(): value for name, value in vars(module).items() if name.isupper() and name[0] != "_"}
    several = {name: value if isinstance(value, tuple) else (value,) for name, value in found.items()}
    return {name: each for name, each in several.items() if each and all(isinstance(one, Stage) for one in each)}


def as_stages(recipe: Stage | Sequence[Stage]) -> tuple[Stage, ...]:
    """One recipe as the only stage; raises as `check` does."""
    stages = (recipe,) if isinstance(recipe, Stage) else tuple(recipe)
    check(stages)
    return stages


def check(stages: Sequence[Stage]) -> None:
    """Raises `SettingError` for stages that cannot follow each other, and `UnknownName` for a stage that is missing."""
    if not stages or not isinstance(stages[-1], Recipe):
        raise SettingError("the last stage must train something; give a recipe, or several")
    names = [name_of(stages, number) for number in range(len(stages))]
    for name in names:
        if not _NAME.fullmatch(name) or name in _TAKEN or names.count(name) > 1:
            raise SettingError(
                f"a stage cannot be called {name!r}; give each a name of its own, of letters, digits, - and _"
                f" (not {', '.join(_TAKEN)})"
            )
    for number, stage in enumerate(stages):
        for key, name in _references(stage):
            _check_reference(key, name, names[:number], stages)


def name_of(stages: Sequence[Stage], number: int) -> str:
    return stages[number].name or f"stage-{number + 1}"


def place_of(stages: Sequence[Stage], number: int, out: Path) -> Path:
    """Where the result of a stage is saved: a model's folder, or the folder of label maps."""
    stage = stages[number]
    if isinstance(stage, Labelling):
        return out / stage.name / "labels"
    return out / "model" if number == len(stages) - 1 else out / name_of(stages, number) / "model"


def is_needed(stages: Sequence[Stage], number: int) -> bool:
    """Whether a later stage refers to this one."""
    return any(name == name_of(stages, number) for stage in stages for _, name in _references(stage))


def resolve(stages: Sequence[Stage], number: int, out: Path) -> Stage:
    """A stage with folders in the place of "@NAME"; raises `CheckpointError` for a folder that is missing."""
    names = [name_of(stages, earlier) for earlier in range(number)]
    changes = {}
    for key, name in _references(stages[number]):
        place = place_of(stages, names.index(name), out)
        if not place.is_dir():
            raise CheckpointError(f"{key}={SIGN}{name} is not in {place}; that stage has to be run again")
        changes[key] = str(place)
    return settings.change(stages[number], changes) if changes else stages[number]


def change(stages: Sequence[Stage], changes: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages with settings changed by name, each where there is one of that name; "@NAME.key" is for one stage.

    Raises as `recipe.change` does where no stage has the setting.
    """
    own: list[dict[str, Any]] = [{} for _ in stages]
    for key, value in changes.items():
        for number, name in _places(stages, key):
            own[number][name] = value
    return tuple(recipes.change(stage, changed) for stage, changed in zip(stages, own, strict=True))


def _places(stages: Sequence[Stage], key: str) -> list[tuple[int, str]]:
    """The stages that a change is for, and the key in them; the last one where no stage knows it, which says so."""
    if not key.startswith(SIGN):
        found = [(number, key) for number, stage in enumerate(stages) if recipes.knows(stage, key)]
        return found or [(len(stages) - 1, key)]
    name, _, rest = key.removeprefix(SIGN).partition(".")
    names = [name_of(stages, number) for number in range(len(stages))]
    if name not in names:
        raise UnknownName("stage", name, names)
    return [(names.index(name), rest)]


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
                "give both stages the same model, or set carry=false"
            )
    for name in shared:
        own[name].copy_(carried[name])
    if carried and (fresh := sorted(own.keys() - carried.keys())):
        _logger.info("%d weights are new in this stage: %s", len(fresh), ", ".join(fresh[:5]))


def _references(stage: Stage) -> Iterator[tuple[str, str]]:
    """Settings that refer to another stage, and its name."""
    given = {"weights": getattr(stage, "weights", None), "teacher": stage.teacher}
    given["data.pseudo_labels"] = getattr(stage.data, "pseudo_labels", None)
    for key, value in given.items():
        if isinstance(value, str) and value.startswith(SIGN):
            yield key, value.removeprefix(SIGN)


def _check_reference(key: str, name: str, earlier: Sequence[str], stages: Sequence[Stage]) -> None:
    if name not in earlier:
        known = ", ".join(f"{SIGN}{each}" for each in earlier) or "none, since it is the first"
        raise SettingError(f"{key}={SIGN}{name} is not a stage before this one; those are {known}")
    labels = isinstance(stages[earlier.index(name)], Labelling)
    if labels != (key == "data.pseudo_labels"):
        kind = "label maps, and a model" if labels else "a model, and label maps"
        raise SettingError(f"{key}={SIGN}{name}: that stage makes {kind} is needed; name another stage")
