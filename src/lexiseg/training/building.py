"""From a recipe's names to the objective that is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from lexiseg import catalog
from lexiseg.encoders.familiar import familiar_with
from lexiseg.errors import SettingError
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
    """The objective of the recipe's method: `Objective(segmenter, settings, teacher=...)` of its file.

    Settings are `recipe.objective`, and left out where that is None. So is the teacher, which is what `catalog.load`
    returns with `recipe.teacher_settings`: the segmenter, frozen and in eval mode, and its `Inference`. Raises as
    `catalog.load` does, and `SettingError` for a method that cannot be trained.
    """
    module, variant = catalog.resolve(recipe.model, weights=recipe.weights)
    if recipe.config is not None:
        variant = replace(variant, config=recipe.config)
    if recipe.from_scratch:
        variant = replace(variant, weights=None)
    method = module.__name__.rpartition(".")[2]
    if not hasattr(module, "Objective"):
        raise SettingError(f"{method} has nothing to train; choose a recipe of another method (lexiseg list recipes)")
    segmenter: Any = module.load(variant)
    objective = module.Objective(segmenter, *_settings(recipe), **_teacher(recipe))

    def save(folder: Path) -> None:
        trained = objective.export() if hasattr(objective, "export") else objective.segmenter
        own = objective.inference(variant.inference) if hasattr(objective, "inference") else variant.inference
        catalog.save(trained, folder, method=method, inference=own, recipe=describe(recipe))

    return Built(objective, save)


def _settings(recipe: Recipe) -> tuple[Any, ...]:
    return () if recipe.objective is None else (recipe.objective,)


def _teacher(recipe: Recipe) -> dict[str, Any]:
    if recipe.teacher is None:
        return {}
    _warn_of_unknown_words(recipe)
    segmenter, inference = catalog.load(recipe.teacher, **recipe.teacher_settings)
    assert isinstance(segmenter, nn.Module), "methods' segmenters are modules"
    return {"teacher": (segmenter.eval().requires_grad_(False), inference)}


@runtime_checkable
class _HasWords(Protocol):
    """The config of a method that is trained on words."""

    def vocabulary(self) -> Vocabulary | None: ...


def _warn_of_unknown_words(recipe: Recipe) -> None:
    """What the teacher has not learned it cannot teach, and training takes long."""
    assert recipe.teacher is not None
    words = recipe.config.vocabulary() if isinstance(recipe.config, _HasWords) else None
    if words is not None:
        _, teacher = catalog.resolve(recipe.teacher, **recipe.teacher_settings)
        familiar = familiar_with(teacher.weights)
        for note in familiar.warnings(words.chosen) if familiar else ():
            _logger.warning("the words of %s: %s", recipe.teacher, note)
