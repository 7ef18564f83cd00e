"""Trains ZSSeg's rival, an FCN, and its self-training.

docs/papers/zsseg_fcn.md §7.1 and §7.4.

RECIPE is the paper's zero-shot setting on COCO-Stuff, VOC_15_5 the one on Pascal VOC; CROSS_DATASET trains with ViLD's
prompts for twice as long and is tested on other data sets. The paper does not say how its FCN was trained, so these
have the schedule of its MaskFormer. SELF_TRAINED and VOC_15_5_SELF_TRAINED go on in one command: the trained model
labels the pixels of unseen classes on its own training photographs, and the network is trained anew on all classes.

    lexiseg train zsseg_fcn/voc_15_5_self_trained --data ROOT --out runs/st
    lexiseg evaluate runs/st/model --on voc_15_5 --data ROOT                 with self-training
    lexiseg evaluate runs/st/seen/model --on voc_15_5 --data ROOT            without

What the paper does in self-training beyond that is not known: which pixels are left out (`--set confidence=0.5`), and
for how long the second network trains. None of these has been run here.

MINI and MINI_SELF_TRAINED are the same on the photographs of this project, where the FCN is the embedded CLIP's own
image tower, without every fifth class of MSRC. TOY and TOY_SELF_TRAINED are on drawn scenes.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.labelled.dense import ZSSEG, DenseAugmentation, Relabelling
from lexiseg.data.mini.descriptions import MaskedData
from lexiseg.data.opening import Workers
from lexiseg.data.scene_data import SceneLabelData
from lexiseg.data.scenes import Scenes, class_names, unseen_classes
from lexiseg.methods.zsseg_fcn import Config, Training
from lexiseg.networks.student_network import StudentShape
from lexiseg.recipes._zero_shot import MSRC, MSRC_UNSEEN, self_training, unseen, vocabulary
from lexiseg.training.benchmark_data import BenchmarkData
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = [
    "CROSS_DATASET",
    "MINI",
    "MINI_SELF_TRAINED",
    "RECIPE",
    "SELF_TRAINED",
    "TOY",
    "TOY_SELF_TRAINED",
    "VOC_15_5",
    "VOC_15_5_SELF_TRAINED",
]

# a tenth of the rate for what has seen ImageNet; no decay of norms, which have their convolution's name and a 1
_BACKBONE = Group(("segmenter.network.backbone.*",), rate=0.1)
_HEAD = "segmenter.network.head"
_NORMS = (f"{_HEAD}.stem.1.*", f"{_HEAD}.lateral.?.1.*", f"{_HEAD}.mix.?.1.*")
_GROUPS = (_BACKBONE, Group(_NORMS, weight_decay=0.0))

# --- the paper's


def _recipe(benchmark: str, *, steps: int, batch_size: int, augmentation: DenseAugmentation) -> Recipe:
    return Recipe(
        model="zsseg_fcn/rn101",
        from_scratch=True,
        config=Config(start_from="usual"),
        objective=Training(vocabulary(benchmark).as_texts(), unseen(benchmark)),
        data=BenchmarkData(benchmark, labels="zero_shot", augmentation=augmentation, workers=Workers(number=8)),
        steps=steps,
        batch_size=batch_size,
        optimiser=Optimiser(rate=1e-4, weight_decay=1e-4),
        groups=_GROUPS,
        schedule=Schedule("poly", power=0.9),
        precision="bf16",
        benchmarks=(benchmark,),
    )


_VOC = replace(ZSSEG, crop=(512, 512), longest=2048)

RECIPE = _recipe("coco_stuff_156_15", steps=60_000, batch_size=32, augmentation=ZSSEG)
VOC_15_5 = _recipe("voc_15_5", steps=20_000, batch_size=16, augmentation=_VOC)
CROSS_DATASET = replace(
    RECIPE,
    objective=replace(RECIPE.objective, prompts="vild14"),
    steps=120_000,
    benchmarks=("cityscapes19", "context59", "ade150", "ade847"),
)

SELF_TRAINED = self_training(RECIPE)
VOC_15_5_SELF_TRAINED = self_training(VOC_15_5)

# --- small ones

MINI = Recipe(
    model="zsseg_fcn/small",
    from_scratch=True,
    objective=Training(MSRC, MSRC_UNSEEN, prompts="single"),
    data=MaskedData(
        "data",
        shards=("msrc",),
        suppressed=MSRC_UNSEEN,
        augmentation=DenseAugmentation(crop=(128, 128), scale=(256, 256), ratio=(0.75, 1.5), most_of_one=1.0),
        workers=Workers(1),
    ),
    steps=400,
    batch_size=8,
    optimiser=Optimiser(rate=1e-3, weight_decay=0.05),
    groups=(_BACKBONE, Group(("*.bias", "*norm*", "*embedding*"), weight_decay=0.0)),
    schedule=Schedule("poly", warmup=0.02),
    clip=1.0,
    checkpoint_every=200,
)
MINI_SELF_TRAINED = self_training(MINI)

_NAMES = class_names()

TOY = Recipe(
    model="zsseg_fcn/tiny",
    config=Config(StudentShape("mini", "tiny"), fixed_norms=False, clip="random"),
    objective=Training(_NAMES, tuple(_NAMES[place] for place in unseen_classes())),
    data=SceneLabelData(
        Scenes(count=32, size=32),
        DenseAugmentation(crop=(32, 32), scale=(32, 32), ratio=(1.0, 1.0), most_of_one=1.0, distort=False),
        Relabelling(suppressed=unseen_classes()),
    ),
    steps=40,
    batch_size=8,
    optimiser=Optimiser(rate=3e-3),
    log_every=5,
    checkpoint_every=20,
)
TOY_SELF_TRAINED = self_training(replace(TOY, steps=10))
