"""Trains ZSSeg's MaskFormer on the seen classes.

It learns the masks and the words of those classes; CLIP stays as it is.

RECIPE is the paper's zero-shot setting on COCO-Stuff, at its scale (zsseg.md §4.3), and has not been run here; nor have
VOC_15_5, CROSS_DATASET, which trains with ViLD's prompts for twice as long and is tested on five other data sets, and
ALL_LABELS, the same network told of all classes (the paper's upper bound). RELEASED is RECIPE as the authors' code has
it: pixels of unseen classes are negatives of every mask, and the ResNet has DeepLab's stem, whose weights are a file
(mmsegmentation's resnet101_v1c, since the authors' own is in detectron2's format). ADE150 trains the proposer of the
paper's Table 6.

MINI is the same on the photographs of this project, beside the embedded CLIP, on a trunk that has seen ImageNet:

    lexiseg train zsseg --mini --data ROOT --out runs/zsseg

Of MSRC's 22 classes every fifth by name is unseen, as in the miniature of MaskCLIP+. TOY is on drawn scenes. Learned
prompts (recipes/learned_prompts) serve both branches: --set prompts=FILE.safetensors.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.labelled.dense import ZSSEG, DenseAugmentation, Relabelling
from lexiseg.data.mini.descriptions import MaskedData
from lexiseg.data.opening import Workers
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names, unseen_classes
from lexiseg.methods.zsseg import Config, Training
from lexiseg.networks.maskformer import MaskFormerShape
from lexiseg.recipes._zero_shot import MSRC, MSRC_UNSEEN, unseen, vocabulary
from lexiseg.training.benchmark_data import BenchmarkData, Labels
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["ADE150", "ALL_LABELS", "CROSS_DATASET", "MINI", "RECIPE", "RELEASED", "TOY", "VOC_15_5"]

# a tenth of the rate for what has seen ImageNet; no decay of norms and embeddings
_GROUPS = (
    Group(("segmenter.network.backbone.*",), rate=0.1),
    Group(("*norm*", "*.fpn.*.1.weight", "*.fpn.*.1.bias", "*embed*"), weight_decay=0.0),  # a ResNet's norms are fixed
)

# --- the paper's


def _training(benchmark: str, labels: Labels) -> Training:
    return Training(vocabulary(benchmark).as_texts(), unseen(benchmark) if labels == "zero_shot" else ())


def _recipe(
    benchmark: str, *, steps: int, labels: Labels = "zero_shot", batch_size: int = 32, augmentation: DenseAugmentation
) -> Recipe:
    return Recipe(
        model="zsseg/rn101",
        from_scratch=True,
        config=Config(masks=MaskFormerShape("rn101"), start_from="usual"),
        objective=_training(benchmark, labels),
        data=BenchmarkData(benchmark, labels=labels, augmentation=augmentation, workers=Workers(number=8)),
        steps=steps,
        batch_size=batch_size,
        optimiser=Optimiser(rate=1e-4, weight_decay=1e-4),
        groups=_GROUPS,
        schedule=Schedule("poly", power=0.9),
        precision="bf16",
        clip=0.01,
        benchmarks=(benchmark,),
    )


_VOC = replace(ZSSEG, crop=(512, 512), longest=2048)
_ADE = replace(ZSSEG, crop=(512, 512), short_sides=tuple(range(256, 769, 51)), longest=2048)

RECIPE = _recipe("coco_stuff_156_15", steps=60_000, augmentation=ZSSEG)
VOC_15_5 = _recipe("voc_15_5", steps=20_000, batch_size=16, augmentation=_VOC)
CROSS_DATASET = replace(RECIPE, steps=120_000, benchmarks=("cityscapes19", "context59", "ade150", "ade847", "voc20"))
ALL_LABELS = _recipe("coco_stuff171", steps=60_000, labels="all", augmentation=ZSSEG)
ADE150 = _recipe("ade150", steps=60_000, labels="all", batch_size=16, augmentation=_ADE)
RELEASED = replace(
    RECIPE,
    config=Config(masks=MaskFormerShape("rn101c"), start_from="resnet101_v1c.pth", allow_pickle=True),
    objective=replace(RECIPE.objective, unlabelled="negative"),
    precision="fp32",
)

# --- small ones

MINI = Recipe(
    model="zsseg/small",
    from_scratch=True,
    objective=Training(MSRC, MSRC_UNSEEN, losses_at="grid"),
    data=MaskedData(
        "data",
        shards=("msrc",),
        suppressed=MSRC_UNSEEN,
        augmentation=DenseAugmentation(crop=(224, 224), short_sides=tuple(range(160, 321, 32)), most_of_one=1.0),
        workers=Workers(1),
    ),
    steps=2_000,
    batch_size=8,
    optimiser=Optimiser(rate=3e-4, weight_decay=0.05),
    groups=_GROUPS,
    schedule=Schedule("poly", warmup=0.02),
    clip=0.1,
    checkpoint_every=250,
)

_NAMES = class_names()

TOY = Recipe(
    model="zsseg/tiny",
    objective=Training(_NAMES, tuple(_NAMES[place] for place in unseen_classes()), prompts="single"),
    data=SceneLabelData(
        Scenes(count=32, size=64),
        DenseAugmentation(crop=(64, 64), short_sides=(64,), most_of_one=1.0, distort=False),
        Relabelling(suppressed=unseen_classes()),
    ),
    steps=40,
    batch_size=8,
    optimiser=Optimiser(rate=1e-3),
    clip=1.0,
    log_every=5,
    checkpoint_every=20,
)
