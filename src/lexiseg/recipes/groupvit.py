"""Trains GroupViT on captions alone.

RECIPE sees tens of millions of pairs (docs/papers/groupvit.md §5.4).

RECIPE is the model of CC3M, CC12M and YFCC14M, REDCAPS that of CC3M, CC12M and RedCaps12M, which goes without the loss
of prompts. CC_COCO and CC_COCO_ONE_STAGE are the rows that SegCLIP's Table 4 compares itself with: two grouping blocks
and one, on the data, the steps and the pictures of SegCLIP's training; what else that paper changed it does not say.
MINI and MINI_ONE_STAGE are the same on the miniature pairs, TOY on drawn scenes.

The released warm-up starts at 4e-6, this one at 0. Of PyTorch's decoupled decay there is none on biases, norms and
scales.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.mini.descriptions import MiniData
from lexiseg.data.opening import Workers
from lexiseg.data.pairs.descriptions import Captions, PairData
from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.encoders.prompts import Prompts
from lexiseg.methods.groupvit import Config, Training
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["CC_COCO", "CC_COCO_ONE_STAGE", "MINI", "MINI_ONE_STAGE", "RECIPE", "REDCAPS", "TOY"]

# pairs that the authors could get
CC3M, CC12M, YFCC14M, REDCAPS12M = 2_891_445, 11_156_203, 14_615_499, 11_866_987
COCO = 414_113  # five captions of 82,783 pictures
EPOCHS, WARMUP_EPOCHS, BATCH = 30, 2, 4096
RATE, LEAST_RATE = 1.6e-3, 4e-5
PROMPTS = Captions(prompts=3, templates=Prompts.open("imagenet80").sentences)
NO_DECAY = ("*.bias", "*norm*", "*projection.1.*", "*_scale")

_PAIRS = PairData(
    places=("data/cc3m", "data/cc12m", "data/yfcc14m"),
    augmentation=PairAugmentation(size=224, area=(0.08, 1.0), flip=0.5, policy="randaugment", erase=0.25),
    captions=PROMPTS,
    workers=Workers(8),
)

RECIPE = Recipe(
    model="groupvit/cc-yfcc",
    from_scratch=True,
    objective=Training(multi_label=1.0, drop_path=0.1),
    data=_PAIRS,
    steps=EPOCHS * (CC3M + CC12M + YFCC14M) // BATCH,
    batch_size=BATCH,  # 256 on each of 16 GPUs, whose batch normalisation is one
    optimiser=Optimiser(rate=RATE, weight_decay=0.05),
    groups=(Group(NO_DECAY, weight_decay=0.0),),
    schedule=Schedule("cosine", warmup=WARMUP_EPOCHS / EPOCHS, floor=LEAST_RATE / RATE),
    precision="fp16",
    clip=5.0,
    benchmarks=("voc21", "context60", "coco_object"),
)

REDCAPS = replace(
    RECIPE,
    model="groupvit/cc-redcaps",
    objective=Training(multi_label=0.0, drop_path=0.1),
    data=replace(_PAIRS, places=("data/cc3m", "data/cc12m", "data/redcaps12m"), captions=Captions()),
    steps=EPOCHS * (CC3M + CC12M + REDCAPS12M) // BATCH,
)

CC_COCO = replace(
    RECIPE,
    model="groupvit/custom",
    config=Config(architecture="two-stage"),
    data=replace(
        _PAIRS,
        places=("data/cc3m", "data/coco/annotations/captions_train2014.json"),
        images="data/coco/train2014",
        each_caption=True,
        augmentation=PairAugmentation(size=224, area=(0.5, 1.0), resample="bicubic"),
    ),
    steps=10 * (CC3M + COCO) // 768,
    batch_size=768,
    optimiser=replace(RECIPE.optimiser, rate=RATE * 768 / BATCH),  # the rate goes with the batch, as released
)

CC_COCO_ONE_STAGE = replace(CC_COCO, config=Config(architecture="one-stage"))

MINI = Recipe(
    model="groupvit/custom",
    config=Config(architecture="small"),
    objective=Training(drop_path=0.0),
    data=MiniData(root="data", augmentation=PairAugmentation(size=128, area=(0.6, 1.0)), captions=PROMPTS),
    steps=1000,
    batch_size=128,
    optimiser=Optimiser(rate=1e-3, weight_decay=0.05),
    groups=(Group(NO_DECAY, weight_decay=0.0),),
    schedule=Schedule("cosine", warmup=0.1, floor=0.01),
    clip=5.0,
)

MINI_ONE_STAGE = replace(MINI, config=Config(architecture="small-one-stage"))

TOY = replace(
    MINI,
    model="groupvit/tiny",
    config=None,
    objective=Training(),
    data=ScenePairData(
        scenes=Scenes(count=256, size=32), augmentation=PairAugmentation(size=32), captions=Captions(prompts=3)
    ),
    steps=60,
    batch_size=32,
    optimiser=Optimiser(rate=1e-3),
    log_every=5,
    checkpoint_every=30,
)
