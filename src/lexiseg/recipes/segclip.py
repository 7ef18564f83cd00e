"""Trains SegCLIP on captions.

RECIPE sees CC3M and COCO's captions (docs/papers/segclip.md §3.7).

RECIPE starts from OpenAI's CLIP, FROM_SCRATCH from random weights; LEGACY is RECIPE with the mistake that the published
weights were trained with (§3.3). MINI is the same idea from the embedded CLIP on the miniature pairs, MINI_FROM_SCRATCH
from random weights, TOY on drawn scenes.

The published recipe freezes what the paper says is trained at the lower rate, the embeddings. Table 1 leaves losses
out: `--set objective.superpixels=0 --set objective.reconstruction=0`; Tables 2 and 3 change `config.plug_layer`,
`config.centres` and `config.cross_layers`. Another layer wants the rates of `groups` for it.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.mini.descriptions import MiniData
from lexiseg.data.opening import Workers
from lexiseg.data.pairs.descriptions import PairData
from lexiseg.data.pairs.superpixel_maps import Superpixels
from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.methods.segclip import Config, Training
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["FROM_SCRATCH", "LEGACY", "MINI", "MINI_FROM_SCRATCH", "RECIPE", "TOY", "groups"]

CC3M, COCO = 2_891_445, 414_113  # pairs: CC3M as the authors of GroupViT could get it, five captions of 82,783 pictures
EPOCHS, BATCH = 10, 768
LOW, HIGH = 4e-6, 4e-3  # learning rates of what was pretrained, and of what comes after it
TOWER = "segmenter.clip.vision.model"


def groups(first: int, share: float) -> tuple[Group, ...]:
    """The rules of a start from a CLIP, `first` of whose image layers come before the group module.

    They and the text tower are trained at a share of the rate, embeddings not at all. Biases do not decay.
    """
    before = tuple(f"{TOWER}.encoder.layers.{block}.*" for block in range(first))
    return (
        Group((*before, "segmenter.clip.text*", "*log_scale"), rate=share),
        Group(("*bias",), weight_decay=0.0),
        Group(("segmenter.clip.*.embeddings.*", f"{TOWER}.pre_layrnorm.*"), frozen=True),
    )


RECIPE = Recipe(
    model="segclip/custom",
    weights="openai/clip-vit-base-patch16",
    config=Config(architecture="from_clip", plug_layer=10),
    objective=Training(),
    data=PairData(
        places=("data/cc3m", "data/coco/annotations/captions_train2014.json"),
        images="data/coco/train2014",
        each_caption=True,
        # where both are stored with a short side of 224 pixels, as the authors did, pictures are scaled once
        superpixels=Superpixels(cache="data/superpixels"),
        augmentation=PairAugmentation(size=224, area=(0.5, 1.0), resample="bicubic"),
        workers=Workers(8),
    ),
    steps=EPOCHS * (CC3M + COCO) // BATCH,
    batch_size=BATCH,
    seed=42,
    # weight decay on all but biases, the norms and the scale included
    optimiser=Optimiser(rate=HIGH, weight_decay=0.05, betas=(0.9, 0.98), epsilon=1e-6),
    groups=groups(10, LOW / HIGH),
    schedule=Schedule("cosine", warmup=0.15),
    clip=1.0,
    benchmarks=("voc21", "context60", "coco_object"),
)

FROM_SCRATCH = replace(
    RECIPE,
    model="segclip/vit-b16",
    weights=None,
    from_scratch=True,
    config=Config(architecture="vit-b16", plug_layer=10, tokenizer="openai/clip-vit-base-patch16"),
    groups=RECIPE.groups[:-1],  # what is random has to be trained; the authors do not say
)

LEGACY = replace(RECIPE, objective=Training(legacy_scramble=True))

# pictures of 128 pixels, so superpixels are as large in proportion: a third of the pixels
_SUPERPIXELS = Superpixels(scale=73.0, sigma=0.9, min_size=73, short_side=128)

MINI = Recipe(
    model="segclip/custom",
    weights="asset:mini-clip",
    config=Config(architecture="from_clip"),
    objective=Training(),
    data=MiniData(
        root="data",
        superpixels=_SUPERPIXELS,
        augmentation=PairAugmentation(size=128, area=(0.5, 1.0), resample="bicubic"),
    ),
    steps=600,
    batch_size=64,
    optimiser=Optimiser(rate=1e-3, weight_decay=0.05, betas=(0.9, 0.98), epsilon=1e-6),
    groups=groups(5, 0.01),
    schedule=Schedule("cosine", warmup=0.15),
    precision="bf16_weights",
    clip=1.0,
)

MINI_FROM_SCRATCH = replace(
    MINI,
    weights=None,
    config=Config(architecture="small"),
    groups=(Group(("*bias",), weight_decay=0.0),),
)

TOY = replace(
    MINI_FROM_SCRATCH,
    model="segclip/tiny",
    config=Config(architecture="tiny"),
    data=ScenePairData(
        scenes=Scenes(count=256, size=32),
        superpixels=Superpixels(scale=20.0, sigma=0.5, min_size=16, short_side=32),
        augmentation=PairAugmentation(size=32),
    ),
    steps=40,
    batch_size=16,
    precision="fp32",
    log_every=5,
    checkpoint_every=20,
)
