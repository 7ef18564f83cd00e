"""SegCLIP's recipe at the paper's scale is what docs/papers/segclip.md §3.7 says, parameter by parameter."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from lexiseg.methods import segclip
from lexiseg.recipes import segclip as recipes
from lexiseg.training import optimiser
from lexiseg.training.optimiser import factor
from lexiseg.training.recipe import Recipe

LOW, HIGH = 4e-6, 4e-3


@pytest.fixture(scope="module")
def objective() -> Any:
    """Of the paper's image tower, without numbers in it."""
    shape = dataclasses.replace(segclip.VIT_B16, context=32, vocabulary=4093, text_width=64, text_layers=1)
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setitem(segclip.SHAPES, "tiny", shape)
        return recipes.RECIPE.objective.build(segclip.load(segclip.VARIANTS["tiny"]))


def rates(objective: Any, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Learning rate at the top of the schedule and weight decay by name, of what is trained."""
    for parameter in objective.parameters():
        parameter.requires_grad_(True)
    objective.segmenter.vision.model.embeddings.class_embedding.requires_grad_(False)
    optimiser.freeze(objective, recipe.groups)
    groups = optimiser.build(objective, dataclasses.replace(recipe, precision="fp16")).param_groups
    found = {id(each): (group["lr"], group["weight_decay"]) for group in groups for each in group["params"]}
    return {name: found[id(each)] for name, each in objective.named_parameters() if id(each) in found}


def test_two_rates_and_what_stands_still(objective: Any) -> None:
    found = rates(objective, recipes.RECIPE)
    tower, clip = "segmenter.clip.vision.model", "segmenter.clip"
    frozen = {name for name, _ in objective.named_parameters()} - found.keys()
    embeddings = ("class_embedding", "patch_embedding.weight", "position_embedding.weight")
    assert frozen == {
        *(f"{tower}.embeddings.{name}" for name in embeddings),
        *(f"{tower}.pre_layrnorm.{kind}" for kind in ("weight", "bias")),
        *(f"{clip}.text_model.embeddings.{name}_embedding.weight" for name in ("token", "position")),
    }
    for name, (rate, decay) in found.items():
        high = name.startswith(("segmenter.grouping.", "reconstruction.", f"{clip}.vision.projection"))
        high |= name.startswith(f"{tower}.post_layernorm")
        high |= any(name.startswith(f"{tower}.encoder.layers.{block}.") for block in (10, 11))
        assert rate == pytest.approx(HIGH if high else LOW), name
        assert decay == (0 if "bias" in name.rpartition(".")[2] else 0.05), name  # norms, centres, the scale decay
    assert found[f"{clip}.log_scale"] == (pytest.approx(LOW), 0.05)


def test_from_scratch_the_embeddings_are_trained(objective: Any) -> None:
    found = rates(objective, recipes.FROM_SCRATCH)
    still = {name for name, _ in objective.named_parameters()} - found.keys()
    assert still == {"segmenter.clip.vision.model.embeddings.class_embedding"}


def test_numbers_of_the_paper() -> None:
    recipe = recipes.RECIPE
    assert recipe.batch_size * recipe.steps == pytest.approx(10 * (2_891_445 + 5 * 82_783), rel=1e-3)
    assert (recipe.batch_size, recipe.clip, recipe.seed, recipe.precision) == (768, 1.0, 42, "fp32")
    assert (recipe.optimiser.betas, recipe.optimiser.epsilon) == ((0.9, 0.98), 1e-6)
    objective: Any = recipe.objective
    assert (objective.mask_ratio, objective.decoder_layers, objective.text_length) == (0.75, 3, 32)
    augmentation = recipe.data.augmentation  # type: ignore[attr-defined]
    assert (augmentation.size, augmentation.area, augmentation.ratio) == (224, (0.5, 1.0), (3 / 4, 4 / 3))
    assert (augmentation.resample, augmentation.flip) == ("bicubic", 0)
    made = recipe.data.superpixels  # type: ignore[attr-defined]
    assert (made.scale, made.sigma, made.min_size, made.short_side) == (224, 0.9, 224, 224)
    assert recipes.LEGACY.objective.legacy_scramble  # type: ignore[attr-defined]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 0.5, 0.99])
def test_a_linear_warm_up_of_15_percent_then_a_cosine_to_nothing(share: float) -> None:
    steps = 10_000
    wanted = share / 0.15 if share < 0.15 else (1 + math.cos(math.pi * (share - 0.15) / 0.85)) / 2
    assert factor(recipes.RECIPE.schedule, int(share * steps), steps) == pytest.approx(wanted, abs=1e-4)
