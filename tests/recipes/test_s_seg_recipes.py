"""S-Seg's recipes at the paper's scale: their numbers, and whose weights do not decay; S-Seg+ by stages."""

from __future__ import annotations

import math
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lexiseg import catalog
from lexiseg.cli.train import find
from lexiseg.data.labelled.dense import Relabelling
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.encoders import weights
from lexiseg.encoders.clip import EMBEDDED, Clip
from lexiseg.encoders.tokenizer import Tokenizer
from lexiseg.evaluation import pseudo_labels
from lexiseg.methods import pseudo_mask_vit as vit_method
from lexiseg.methods import s_seg as method
from lexiseg.methods import student
from lexiseg.networks.maskformer import MaskFormerNetwork
from lexiseg.networks.student_network import StudentNetwork, StudentShape
from lexiseg.recipes import maskclip_plus, pseudo_mask_vit, s_seg, s_seg_plus
from lexiseg.training import optimiser, stages
from lexiseg.training.recipe import Labelling, Recipe
from lexiseg.training.train import train

VIT_B16 = {
    "model_type": "vit_mae", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "image_size": 224, "patch_size": 16,
}  # fmt: skip


class Around(nn.Module):
    """What an objective is to the optimiser."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter


def undecayed(objective: nn.Module, recipe: Recipe) -> set[str]:
    """Parameters without weight decay; every pattern must match one, as the trainer checks."""
    optimiser.freeze(objective, recipe.groups)
    patterns = [name for group in recipe.groups if group.weight_decay == 0 for name in group.names]
    return {name for name, _ in objective.named_parameters() if any(fnmatchcase(name, each) for each in patterns)}


def vectors_and_tables(objective: nn.Module) -> set[str]:
    """Norms, biases and scales; and what is looked up and not multiplied."""
    tables = ("embedding.weight", "embedder.weight", "class_embedding", "bias_table", "cls_token")
    return {name for name, each in objective.named_parameters() if each.ndim <= 1 or name.endswith(tables)}


def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(weights.find(EMBEDDED), 77)


@pytest.mark.parametrize("recipe", [s_seg.RECIPE, s_seg.MINI_FROM_SCRATCH], ids=["paper", "mini"])
def test_what_is_not_a_matrix_does_not_decay(recipe: Recipe) -> None:
    _, variant = catalog.resolve(recipe.model)
    config: Any = variant.config
    with torch.device("meta"):
        segmenter = method.SSeg(config, MaskFormerNetwork(config.masks), tokenizer())
    objective = Around(segmenter)
    assert undecayed(objective, recipe) == vectors_and_tables(objective)


def test_what_is_not_a_matrix_of_the_pseudo_mask_vit_does_not_decay() -> None:
    for name in ("vit-b16", "small"):
        with torch.device("meta"):
            clip = Clip(replace(vit_method.SHAPES[name], vocabulary=4093).config(), tokenizer())
        objective = Around(nn.ModuleDict({"clip": clip}))
        assert undecayed(objective, pseudo_mask_vit.RECIPE) == vectors_and_tables(objective)


def test_the_papers_numbers() -> None:
    for recipe, pairs in ((s_seg.CC12M, 12e6), (s_seg.CC15M, 15e6), (s_seg.RECIPE, 26e6)):
        assert recipe.batch_size == 4096
        assert recipe.steps * 4096 / 30 == pytest.approx(pairs, rel=0.08)  # of what the authors say, by the million
        assert recipe.schedule.warmup * recipe.steps * 4096 == pytest.approx(2 / 30 * 30 * pairs, rel=0.08)
        assert (recipe.optimiser.rate, recipe.optimiser.weight_decay) == (5e-4, 0.05)
        assert recipe.optimiser.betas == (0.9, 0.999)
    config = catalog.resolve(s_seg.RECIPE.model)[1].config
    assert (config.masks.backbone, config.masks.queries, config.masks.layers, config.masks.width) == (
        "swin-s",
        64,
        6,
        256,
    )
    assert (config.text.layers, config.text.width, config.text.context, config.dimension) == (12, 256, 77, 256)
    training: Any = s_seg.RECIPE.objective
    assert (training.pseudo_masks.k, training.dice_weight, training.focal_weight) == (8, 1.0, 20.0)


def test_layers_of_the_vit_learn_the_more_slowly_the_earlier_they_are() -> None:
    _, recipe = s_seg_plus.VOC_12M
    assert isinstance(recipe, Recipe)
    with torch.device("meta"):
        network = StudentNetwork(StudentShape("upernet", "transformers:a/b"), 256, source_config=VIT_B16)
    objective = Around(nn.ModuleDict({"network": network}))
    built: Any = optimiser.build(objective, recipe)
    names = {parameter: name for name, parameter in objective.named_parameters()}
    rates = {names[each]: group["factor"] for group in built.param_groups for each in group["params"]}
    model = "segmenter.network.backbone.model"
    assert rates[f"{model}.embeddings.patch_embeddings.projection.weight"] == pytest.approx(0.7**13)
    for layer in (0, 1, 10, 11):
        of_layer = [rate for name, rate in rates.items() if name.startswith(f"{model}.layers.{layer}.")]
        assert len(of_layer) == 16
        assert of_layer == pytest.approx([0.7 ** (12 - layer)] * 16)
    rest = [rate for name, rate in rates.items() if not name.startswith(model)]
    assert rest == pytest.approx([1.0] * len(rest))


@pytest.mark.parametrize(("data", "steps"), [("voc", 20_000), ("context", 40_000), ("coco", 80_000)])
@pytest.mark.parametrize("pairs", ["12m", "15m", "26m"])
def test_s_seg_plus_labels_the_training_photographs_and_learns_them(data: str, steps: int, pairs: str) -> None:
    labelling, recipe = find(f"s_seg_plus/{data}_{pairs}", mini=False, toy=False)
    assert isinstance(labelling, Labelling)
    assert isinstance(recipe, Recipe)
    stages.check((labelling, recipe))
    told: Any = recipe.data
    assert told.labels == "none"
    assert told.pseudo_labels == "@labels"
    assert replace(told, pseudo_labels=None) == labelling.data
    assert labelling.teacher == recipe.teacher == f"runs/s_seg-{pairs}/model"
    assert (recipe.steps, recipe.batch_size, recipe.optimiser.rate) == (steps, 16, 1e-4)
    assert recipe.schedule.warmup * steps == 1500
    config: Any = recipe.config
    benchmark = catalog.get("benchmarks", told.benchmark).BENCHMARK
    assert config.vocabulary().names == benchmark.vocabulary(told.wording).names
    assert benchmark.background == config.learn_background
    # the teacher's setting exists
    catalog.resolve("s_seg/custom", **labelling.teacher_settings)


def test_a_student_learns_what_s_seg_sees(tmp_path: Path) -> None:
    every = Relabelling(suppressed=tuple(range(len(class_names()))))
    augmentation: Any = maskclip_plus.TOY.data.augmentation  # type: ignore[attr-defined]
    data = SceneLabelData(Scenes(count=4, size=32), augmentation, every)
    taught = replace(
        maskclip_plus.TOY,
        objective=student.Training(guided=False),
        teacher="s_seg/tiny",
        data=replace(data, pseudo_labels="@labels"),
        steps=2,
        batch_size=4,
    )
    labelling = Labelling(name="labels", teacher="s_seg/tiny", data=data)
    torch.set_num_threads(1)
    run = train((labelling, taught), tmp_path, tensorboard=False, label=pseudo_labels.label)
    assert run.finished
    assert all(math.isfinite(each) for each in run.losses.values())
    assert len(list((tmp_path / "labels" / "labels").glob("*.png"))) == 4
    segmenter, _ = catalog.load(tmp_path / "model")
    assert segmenter.text is None  # type: ignore[attr-defined]  # S-Seg's words are not a CLIP's
