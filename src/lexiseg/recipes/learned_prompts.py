"""Learns sixteen prompt vectors for a CLIP.

They are trained on crops of the seen classes (zsseg_fcn.md §7.2).

RECIPE is the paper's on COCO-Stuff, VOC_15_5 its other one, both at its scale and not run here. The file that all
models on the same CLIP can use is `OUT/model/learned.safetensors`:

    lexiseg train learned_prompts --data ROOT --out runs/p
    lexiseg segment PHOTO --words "cat, grass" --model maskclip/vit-b16 --prompts runs/p/model/learned.safetensors

Prompts differ from seed to seed (`--set seed=1`), so train several before you believe a difference. RELEASED is RECIPE
with what the authors' code does: crops of 244 x 224, a light grey fill, boxes that lose their last pixel at a border,
gradients cut to a norm of 0.01. Its warm-up holds the rate at 0.005 of itself for 100 steps; here the rate rises in a
straight line over as many.

MINI learns prompts for the embedded CLIP on this project's photographs, without every fifth class of MSRC; TOY is on
drawn scenes.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.labelled.dense import DenseAugmentation, Relabelling
from lexiseg.data.labelled.regions import RegionAugmentation, RegionData
from lexiseg.data.mini.descriptions import MaskedData
from lexiseg.data.opening import Workers
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names, unseen_classes
from lexiseg.methods.learned_prompts import Config, Training
from lexiseg.recipes._zero_shot import MSRC, MSRC_UNSEEN, unseen, vocabulary
from lexiseg.training.benchmark_data import BenchmarkData
from lexiseg.training.recipe import Optimiser, Recipe, Schedule

__all__ = ["MINI", "RECIPE", "RELEASED", "TOY", "VOC_15_5"]


def _recipe(benchmark: str, *, steps: int, per_class: int) -> Recipe:
    return Recipe(
        model="learned_prompts/vit-b16",
        objective=Training(vocabulary(benchmark).as_texts(), unseen(benchmark)),
        data=RegionData(BenchmarkData(benchmark, labels="seen"), per_class=per_class, workers=Workers(number=8)),
        steps=steps,
        batch_size=32,
        optimiser=Optimiser("sgd", rate=0.02, weight_decay=5e-4),
        schedule=Schedule("cosine", warmup=100 / steps),
        checkpoint_every=1_000,
    )


RECIPE = _recipe("coco_stuff_156_15", steps=16_000, per_class=32)  # about 103 passes
VOC_15_5 = _recipe("voc_15_5", steps=3_200, per_class=128)  # about 53 passes

RELEASED = replace(
    RECIPE,
    objective=replace(RECIPE.objective, fill="released", logit_scale=100.0),
    data=replace(RECIPE.data, augmentation=RegionAugmentation(size=(244, 224), short_boxes=True)),
    clip=0.01,
)

MINI = Recipe(
    model="learned_prompts/custom",
    weights="asset:mini-clip",
    objective=Training(MSRC, MSRC_UNSEEN),
    data=RegionData(
        MaskedData("data", shards=("msrc",), suppressed=MSRC_UNSEEN),
        RegionAugmentation(size=(96, 96), area=(0.3, 1.0)),
        workers=Workers(1),
    ),
    steps=400,
    batch_size=16,
    optimiser=Optimiser("sgd", rate=0.02, weight_decay=5e-4),
    schedule=Schedule("cosine", warmup=0.02),
)

_NAMES = class_names()

TOY = Recipe(
    model="learned_prompts/custom",
    weights="asset:mini-clip",  # a CLIP of random weights sees too little for its prompts to matter
    config=Config(4),
    objective=Training(_NAMES, tuple(_NAMES[place] for place in unseen_classes())),
    data=RegionData(
        SceneLabelData(
            Scenes(count=24, size=64), DenseAugmentation(crop=(64, 64)), Relabelling(suppressed=unseen_classes())
        ),
        RegionAugmentation(size=(32, 32), area=(0.5, 1.0)),
    ),
    steps=24,
    batch_size=12,
    optimiser=Optimiser(rate=2e-2),
    log_every=4,
    checkpoint_every=12,
)
