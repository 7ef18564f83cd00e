"""Trains SimSeg, a CLIP with locality-driven alignment, on CC3M and CC12M.

RECIPE has the settings that its author named when asked why the published configuration does not reproduce the paper;
RELEASED is that configuration (simseg.md §2.4). MINI is the same idea on the miniature pairs, TOY on drawn scenes.
FROM_CLIP made simseg/mini: it goes on from the embedded CLIP, whose lower half both models share.
"""

from dataclasses import replace

from lexiseg.data.mini.descriptions import MiniData
from lexiseg.data.pairs.descriptions import Captions, PairData
from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.methods.simseg import Config, Training
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

CC15M = 2_891_445 + 11_156_203  # pairs of CC3M and CC12M that the authors of GroupViT could get (§5.4)
EPOCHS = 20

RECIPE = Recipe(
    model="simseg/vit-b16",
    from_scratch=True,  # AugReg's ViT and BERT, which `Config` names
    objective=Training(masked_text=False),
    data=PairData(
        places=("data/cc3m", "data/cc12m"),
        augmentation=PairAugmentation(size=224, area=(0.6, 1.0), policy="autoaugment"),
        captions=Captions(tokenizer="google-bert/bert-base-uncased"),
    ),
    steps=EPOCHS * CC15M // 4096,
    batch_size=4096,
    cache=128,  # the author's 4,096 were 4 micro-batches of 1,024 over all GPUs
    # weight decay on everything, the temperature included; no clipping
    optimiser=Optimiser(rate=1e-4, weight_decay=0.2, betas=(0.9, 0.98), epsilon=1e-6),
    schedule=Schedule("cosine", warmup=0.025, floor=0.1),
    precision="fp16",
    benchmarks=("voc21", "context60", "coco_object"),
)

RELEASED = replace(
    RECIPE,
    objective=Training(masked_text=True),
    steps=EPOCHS * CC15M // 1024,
    batch_size=1024,
    cache=None,
    optimiser=replace(RECIPE.optimiser, weight_decay=0.001),
)

MINI = Recipe(
    model="simseg/custom",
    config=Config(architecture="small-clip"),
    objective=Training(),
    data=MiniData(root="data", augmentation=PairAugmentation(size=128, area=(0.6, 1.0))),
    steps=1000,  # 128,000 pairs; --dry-run says what that takes
    batch_size=128,
    optimiser=Optimiser(rate=1e-3, weight_decay=0.1, betas=(0.9, 0.98), epsilon=1e-6),
    groups=(Group(("*.bias", "*norm*", "*temperature"), weight_decay=0.0),),
    schedule=Schedule("cosine", warmup=0.05, floor=0.01),
    precision="bf16_weights",  # docs/performance.md has what it gains
    clip=1.0,  # a small batch from random weights has steep moments
)

FROM_CLIP = replace(
    MINI,
    weights="asset:mini-clip",
    config=Config(),
    steps=600,
    batch_size=64,
    optimiser=replace(MINI.optimiser, rate=3e-4),
    groups=(
        *MINI.groups,
        Group(
            ("*.embeddings.*", "*.pre_layrnorm.*", "*.layers.0.*", "*.layers.1.*", "*.vision.*.layers.2.*"), frozen=True
        ),
    ),
)

TOY = replace(
    MINI,
    config=Config(architecture="tiny-clip"),
    data=ScenePairData(scenes=Scenes(count=256, size=32), augmentation=PairAugmentation(size=32)),
    steps=60,
    batch_size=32,
    optimiser=Optimiser(rate=1e-3),
    log_every=5,
    checkpoint_every=30,
)
