"""The contract that everything that trains keeps (training/contracts.py), over every `Training` in `methods/`.

A lesson is the TOY of a recipe, or a variation of it that takes other ways through the objective. A method with a new
description of an objective is named here until one of its recipes' TOYs uses it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lexiseg import catalog
from lexiseg.data.labelled.dense import Relabelling
from lexiseg.data.mini.concept_images import SceneConcepts
from lexiseg.data.scenes import Scenes, class_names, unseen_classes
from lexiseg.methods import groupvit, mini_clip, s_seg, segclip, student
from lexiseg.training import batches, gradient_cache, optimiser, random_state
from lexiseg.training.building import build
from lexiseg.training.distributed import processes
from lexiseg.training.forward import Forward
from lexiseg.training.recipe import Group, Recipe, change

BATCH = 6
# parameters that stand still for a reason of the method's own
# MaskFormer's first self-attention sees zeros: a constant, which the bias of the norm behind it is alone
_CONSTANT = "segmenter.network.decoder.decoder.layers.0.self_attn"
_MASKFORMER = (f"{_CONSTANT}.*", f"{_CONSTANT}_layer_norm.weight")
FROZEN = {
    "simseg": ("segmenter.towers.clip.log_scale",),  # its own temperature is trained in its place
    "zsseg": _MASKFORMER,
    "a proposer with negatives": _MASKFORMER,
    "segclip": ("*.class_embedding",),  # which is thrown away
    "a segclip by the paper": ("*.class_embedding",),
    "s_seg": _MASKFORMER,
    "masks projected first": _MASKFORMER,
}
# settings without which an objective draws random numbers, so that the same samples would not give the same loss
STILL: dict[str, dict[str, Any]] = {"mini_clip_vit": {"objective.keep": 1.0}}


def lessons() -> dict[str, Recipe]:
    toys = {name: catalog.get("recipes", name).TOY for name in catalog.names("recipes")}
    found: dict[str, Recipe] = {name: toy if isinstance(toy, Recipe) else toy[0] for name, toy in toys.items()}
    taught = found["maskclip_plus"]
    unseen = unseen_classes()
    holes = replace(taught.data, relabelling=Relabelling(suppressed=unseen))  # type: ignore[type-var]
    names = tuple(class_names()[place] for place in unseen)
    config: Any = taught.config
    grouping: Any = found["segclip"].config
    by_the_paper = segclip.Training(
        reconstructed="all", activation="gelu", normalise="paper", stop_gradient=True, ids="majority"
    )
    return {
        **found,
        "a proposer with negatives": replace(
            found["zsseg"],
            objective=replace(found["zsseg"].objective, unlabelled="negative"),  # type: ignore[type-var]
        ),
        "groups of one stage": replace(found["groupvit"], config=groupvit.Config(architecture="tiny-one-stage")),
        "groups without prompts": replace(found["groupvit"], objective=groupvit.Training(multi_label=0.0)),
        "masks projected first": replace(
            found["s_seg"],
            config=replace(s_seg.VARIANTS["tiny"].config, image_vector="projected_first", projection_norm="layer"),
            objective=replace(found["s_seg"].objective, losses_at="grid", resize="bilinear", total="mean"),  # type: ignore[type-var]
        ),
        "words of the embedded clip": replace(
            found["mini_clip"],
            objective=mini_clip.WordTraining(concepts=len(class_names())),
            data=SceneConcepts(Scenes(count=64, size=32)),
            groups=(Group(("segmenter.clip.vision.*", "*log_scale"), frozen=True),),
        ),
        "a student with holes": replace(taught, objective=student.Training(unseen=names), data=holes),
        "a student that teaches itself": replace(taught, objective=student.Training(self_training=0), data=holes),
        "a student of features": replace(taught, objective=student.Training(distillation=1.0)),
        "a student with a background": replace(
            taught, config=replace(config, learn_background=True, mapper="mlp", classifier="cosine")
        ),
        "a segclip by the paper": replace(
            found["segclip"], objective=by_the_paper, config=replace(grouping, group_form="paper")
        ),
    }


def offers(name: str, what: str) -> bool:
    """Whether the objective of a lesson has an optional part."""
    return hasattr(typing.get_type_hints(type(lessons()[name].objective).build)["return"], what)


@dataclass(frozen=True, eq=False)
class Lesson:
    name: str
    recipe: Recipe
    objective: Any
    batch: dict[str, Any]

    @classmethod
    def of(cls, name: str, *, seed: int = 0) -> Lesson:
        torch.set_num_threads(1)
        recipe = change(lessons()[name], STILL.get(name, {}))
        random_state.seed(seed, rank=0)
        objective = build(recipe).objective
        optimiser.freeze(objective, recipe.groups)
        return cls(name, recipe, objective, tiny_batch(recipe))

    def begin(self) -> Any:
        """The objective before a step, in training mode."""
        self.objective.train()
        if hasattr(self.objective, "before_step"):
            self.objective.before_step(0)
        return self.objective

    def hold_still(self) -> Any:
        """The same without dropout and running statistics, which would see pieces of a batch."""
        self.begin()
        return self.objective.eval()

    def should_train(self, name: str) -> bool:
        still = (*getattr(self.objective, "unsaved", ()), *FROZEN.get(self.name, ()))
        frozen = [rule.frozen for rule in self.recipe.groups if any(fnmatchcase(name, each) for each in rule.names)]
        return not any(fnmatchcase(name, each) for each in still) and [None, *frozen][-1] is not True


def tiny_batch(recipe: Recipe) -> dict[str, Any]:
    """The first samples of the recipe's data."""
    source = recipe.data.open(batch_size=BATCH, seed=0, max_bad_fraction=0.0)
    batch, _ = next(source.stream(None, rank=0, world=1))
    return dict(batch)


def twice(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.cat([each] * 2) if isinstance(each, Tensor) else each * 2 for name, each in batch.items()}


def gradients(objective: nn.Module, losses: dict[str, Tensor], share: float = 1.0) -> dict[str, Tensor]:
    """What has been propagated so far, and these losses."""
    (torch.stack(list(losses.values())).sum() * share).backward()
    return {name: each.grad.clone() for name, each in objective.named_parameters() if each.grad is not None}


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """To a hundred-thousandth of the largest gradient."""
    assert found.keys() == wanted.keys()
    largest = max(float(each.abs().max()) for each in wanted.values())
    for name, each in wanted.items():
        assert torch.allclose(found[name], each, rtol=1e-5, atol=1e-5 * largest), name


@pytest.fixture(params=list(lessons()))
def lesson(request: pytest.FixtureRequest) -> Lesson:
    return Lesson.of(request.param)


def descriptions() -> Iterator[type]:
    """Frozen dataclasses in methods' files that build an objective."""
    for name in catalog.names("methods"):
        for kind in vars(catalog.get("methods", name)).values():
            if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and hasattr(kind, "build"):
                yield kind


def test_every_description_of_an_objective_has_a_lesson() -> None:
    assert set(descriptions()) <= {type(recipe.objective) for recipe in lessons().values()}
    for kind in descriptions():
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert list(inspect.signature(kind.build).parameters) == ["self", "segmenter", "teacher"]  # type: ignore[attr-defined]


def test_it_is_a_module_around_a_segmenter(lesson: Lesson) -> None:
    assert isinstance(lesson.objective, nn.Module)
    assert isinstance(lesson.objective.segmenter, nn.Module)
    losses = lesson.begin()(lesson.batch)
    assert losses
    assert all(each.shape == () and each.isfinite() for each in losses.values())


def test_gradients_reach_what_should_train_and_nothing_else(lesson: Lesson) -> None:
    found = gradients(lesson.objective, lesson.begin()(lesson.batch))
    for name, parameter in lesson.objective.named_parameters():
        reached = name in found and bool(found[name].abs().sum() > 0)
        assert reached == parameter.requires_grad == lesson.should_train(name), name


@pytest.mark.parametrize("name", [name for name in lessons() if not offers(name, "embed")])
def test_losses_are_means_over_the_batch(name: str) -> None:
    """The same samples twice lose as much as once; contrastive losses are left out, where more samples lose more."""
    lesson = Lesson.of(name)
    objective = lesson.hold_still()
    once, again = objective(lesson.batch), objective(twice(lesson.batch))
    for loss in once:
        assert float(again[loss].detach()) == pytest.approx(float(once[loss].detach()), rel=1e-5, abs=1e-6), loss


@pytest.mark.parametrize("name", [name for name in lessons() if not offers(name, "embed")])
def test_accumulating_pieces_changes_nothing(name: str) -> None:
    lesson = Lesson.of(name)
    objective = lesson.hold_still()
    if hasattr(objective, "before_batch"):
        objective.before_batch(lesson.batch, lambda own: own)
    whole = gradients(objective, objective(lesson.batch))
    objective.zero_grad()
    found: dict[str, Tensor] = {}
    for piece in batches.split(lesson.batch, BATCH // 3):
        found = gradients(objective, objective(piece), share=1 / 3)
    assert_equal(found, whole)


@pytest.mark.parametrize("name", [name for name in lessons() if offers(name, "embed")])
def test_rows_of_an_embedding_depend_on_their_own_sample_alone(name: str) -> None:
    lesson = Lesson.of(name)
    objective = lesson.hold_still()
    with torch.no_grad():
        together = objective.embed(lesson.batch)
        for place, piece in enumerate(batches.split(lesson.batch, 1)):
            for rows, alone in zip(together, objective.embed(piece), strict=True):
                assert len(rows) == BATCH
                assert torch.allclose(rows[place], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in lessons() if offers(name, "embed")])
def test_caching_gradients_changes_nothing(name: str) -> None:
    lesson = Lesson.of(name)
    objective = lesson.hold_still()
    whole = gradients(objective, objective.loss(*objective.embed(lesson.batch)))
    objective.zero_grad()
    with processes(lesson.recipe) as accelerator:
        forward = Forward(objective)
        gradient_cache.backward(accelerator.prepare(forward), forward, batches.split(lesson.batch, 4), accelerator)
    found = {name: each.grad for name, each in objective.named_parameters() if each.grad is not None}
    assert_equal(found, whole)


@pytest.mark.parametrize("name", [name for name in lessons() if offers(name, "unsaved")])
def test_what_is_not_saved_is_rebuilt_equal_from_the_recipe(name: str) -> None:
    """Whatever the state of the random numbers."""
    first, again = Lesson.of(name), Lesson.of(name, seed=9)
    rebuilt = again.objective.state_dict()
    left_out = {name for name in rebuilt if any(fnmatchcase(name, each) for each in first.objective.unsaved)}
    assert left_out
    for each in left_out:
        assert torch.equal(first.objective.state_dict()[each], rebuilt[each]), each


@pytest.mark.parametrize("name", [name for name in lessons() if offers(name, "report")])
def test_what_it_reports_are_numbers_under_the_same_names_in_every_step(name: str) -> None:
    lesson = Lesson.of(name)
    names = []
    for step in (0, 1):
        lesson.objective.before_step(step)
        lesson.objective(lesson.batch)
        report = lesson.objective.report()
        assert all(type(value) is float for value in report.values())
        names.append(list(report))
    assert names[0] == names[1] != []
