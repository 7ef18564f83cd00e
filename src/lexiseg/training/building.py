"""Builds the objective that is trained from a recipe's names."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from torch import nn

from lexiseg import catalog
from lexiseg.encoders.familiar import familiar_with
from lexiseg.encoders.prompts import Prompts
from lexiseg.errors import SettingError
from lexiseg.segmenter import Teacher
from lexiseg.training.recipe import Recipe, describe
from lexiseg.vocabulary import Vocabulary

__all__ = ["Build", "Built", "build"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Built:
    """An objective, and how to save what it trained as a folder."""

    objective: nn.Module
    save: Callable[[Path], None]


Build = Callable[[Recipe], Built]


def build(recipe: Recipe) -> Built:
    """What the recipe's objective builds of the recipe's model, and of the teacher where one is named.

    The teacher is what `catalog.load` returns with `recipe.teacher_settings`. Raises as `catalog.load` and
    `recipe.objective.build` do, and `SettingError` for a config or an objective of another method.
    """
    module, variant = catalog.resolve(recipe.model, weights=recipe.weights)
    _check_kinds(recipe, module)
    if recipe.config is not None:
        variant = replace(variant, config=recipe.config)
    if recipe.from_scratch:
        variant = replace(variant, weights=None)
    objective: Any = recipe.objective.build(module.load(variant), teacher=_teacher(recipe))

    def save(folder: Path) -> None:
        trained = objective.export() if hasattr(objective, "export") else objective.segmenter
        own = objective.inference(variant.inference) if hasattr(objective, "inference") else variant.inference
        method = module.__name__.rpartition(".")[2]
        catalog.save(trained, folder, method=method, inference=own, recipe=describe(recipe))

    return Built(objective, save)


def _check_kinds(recipe: Recipe, module: ModuleType) -> None:
    for name, part in (("config", recipe.config), ("objective", recipe.objective)):
        kind = type(part)
        if kind.__module__.startswith("lexiseg.") and getattr(module, kind.__name__, None) is not kind:
            raise SettingError(
                f"model={recipe.model} cannot go with the {name} of this recipe ({kind.__module__}); "
                "name a model of the same method, or take another recipe"
            )


def _teacher(recipe: Recipe) -> Teacher | None:
    if recipe.teacher is None:
        return None
    _warn_of_unknown_words(recipe)
    segmenter, inference = catalog.load(recipe.teacher, **recipe.teacher_settings)
    assert isinstance(segmenter, nn.Module), "methods' segmenters are modules"
    frozen: Any = segmenter.eval().requires_grad_(False)
    return Teacher(frozen, inference, Prompts.open(inference.prompts))


@runtime_checkable
class _HasWords(Protocol):
    """The config of a method that is trained on words."""

    def vocabulary(self) -> Vocabulary | None: ...


def _warn_of_unknown_words(recipe: Recipe) -> None:
    """What the teacher has not learned it cannot teach, and training takes long."""
    assert recipe.teacher is not None
    config: Any = recipe.config
    words = config.vocabulary() if isinstance(config, _HasWords) else None
    if words is not None:
        _, teacher = catalog.resolve(recipe.teacher, **recipe.teacher_settings)
        familiar = familiar_with(teacher.weights)
        for note in familiar.warnings(words.chosen) if familiar else ():
            _logger.warning("the words of %s: %s", recipe.teacher, note)
