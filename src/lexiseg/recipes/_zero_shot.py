"""Shares what recipes of zero-shot systems have in common.

They are their classes, and self-training in stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lexiseg import catalog, settings
from lexiseg.errors import SettingError
from lexiseg.recipes.maskclip_plus import MSRC
from lexiseg.training.recipe import Labelling, Recipe
from lexiseg.vocabulary import Vocabulary

__all__ = ["MSRC", "MSRC_UNSEEN", "self_training", "unseen", "vocabulary"]

# every fifth class by name, chosen before anything was looked at, as in the miniature of MaskCLIP+
MSRC_UNSEEN = tuple(sorted(Vocabulary(MSRC, shared_words=True).names)[4::5])


def vocabulary(benchmark: str, wording: str | None = None) -> Vocabulary:
    """The classes of a benchmark with the words of a wording; None is the benchmark's own."""
    found: Vocabulary = catalog.get("benchmarks", benchmark).BENCHMARK.vocabulary(wording)
    return found


def unseen(benchmark: str) -> tuple[str, ...]:
    """The classes that a benchmark keeps from training."""
    found = vocabulary(benchmark)
    return tuple(name for name, seen in zip(found.names, found.seen or (), strict=True) if not seen)


def self_training(
    recipe: Recipe,
    *,
    confidence: float | None = None,
    prior: float | None = 0.0,
    teacher_settings: Mapping[str, Any] | None = None,
    **retraining: Any,
) -> tuple[Recipe, Labelling, Recipe]:
    """A recipe of seen classes as three stages: train, label the pixels of unseen classes, train on all (§7.4).

    recipe: its data leave pixels of unseen classes UNLABELLED (`labels="zero_shot"`, or `suppressed`), and can be
        filled (`pseudo_labels`); its objective names the unseen classes (`unseen`).
    confidence, prior, teacher_settings: of the `Labelling`.
    retraining: fields of the last stage, which is otherwise the first one over again, from the same start.

    docs/papers/zsseg_fcn.md. Raises `SettingError` for a recipe that cannot be filled.
    """
    for what, value in (("data.pseudo_labels", recipe.data), ("objective.unseen", recipe.objective)):
        if what.partition(".")[2] not in settings.names(value):
            raise SettingError(f"{recipe.model} cannot train itself: this recipe has no {what}")
    first = replace(recipe, name="seen")
    labelling = Labelling(
        name="guess",
        teacher="@seen",
        teacher_settings=dict(teacher_settings or {}),
        data=recipe.data,
        confidence=confidence,
        prior=prior,
    )
    told = settings.change(
        replace(recipe, name="all", carry=False), {"data.pseudo_labels": "@guess", "objective.unseen": ()}
    )
    return first, labelling, replace(told, **retraining)
