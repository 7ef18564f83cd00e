"""Trains S-Seg on clusters of features and on captions.

Clusters give masks, captions give words (docs/papers/s_seg.md §4.5). Unofficial.

RECIPE is the paper's largest run, on CC12M, CC3M and the first RedCaps, 26 M pairs; CC15M goes without RedCaps, CC12M
without CC3M too. None of them has been run here. Open in the paper, and chosen here: how much of a picture a crop
shows, what becomes of a caption (its nouns and verbs, in a sentence), which weights do not decay.

    lexiseg train s_seg/cc12m --set data.places=shards/ --out runs/s_seg-12m

Pseudo-masks that do not change with the crop can be made once, and the step never waits for them:

    lexiseg data masks shards/ masks/ --set features=facebook/dino-vits8
    lexiseg train s_seg/cc12m --set masks_from=data --set data.maps='{"pseudo_masks": "masks/"}'

MINI is the same on the miniature pairs. Its backbone and its pseudo-masks stand on EfficientNet-Lite2, which learned
from the labels of ImageNet's photographs: nobody drew a mask for it, but it is not free of labels. MINI_FROM_SCRATCH
begins with random weights and clusters colours, and knows nothing but the pairs. TOY is on drawn scenes.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.mini.descriptions import MiniData
from lexiseg.data.opening import Workers
from lexiseg.data.pairs.descriptions import Captions, PairData
from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.methods.s_seg import VARIANTS, Training
from lexiseg.proposals import kmeans
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["CC12M", "CC15M", "MINI", "MINI_FROM_SCRATCH", "RECIPE", "TOY"]

# pairs that the authors of GroupViT could get; of RedCaps' twelve million the paper takes the first eleven or so
_CC3M, _CC12M, _REDCAPS = 2_891_445, 11_156_203, 11_866_987
_EPOCHS, _WARMUP_EPOCHS, _BATCH = 30, 2, 4096
_NO_DECAY = (
    "*.bias", "*norm*", "*projection.1.*", "*.fpn.*.1.weight", "*embedder.weight", "*_embedding.weight", "*_scale",
)  # fmt: skip


def _recipe(places: tuple[str, ...], pairs: int) -> Recipe:
    return Recipe(
        model="s_seg/swin-s",
        from_scratch=True,
        objective=Training(),
        data=PairData(
            places=places,
            augmentation=PairAugmentation(size=224, area=(0.08, 1.0)),  # GroupViT's share
            captions=Captions(words="a photo of {}."),
            workers=Workers(8),
        ),
        steps=_EPOCHS * pairs // _BATCH,
        batch_size=_BATCH,
        optimiser=Optimiser(rate=5e-4, weight_decay=0.05),
        groups=(Group((*_NO_DECAY, "*relative_position*"), weight_decay=0.0),),
        schedule=Schedule("cosine", warmup=_WARMUP_EPOCHS / _EPOCHS),
        precision="bf16",
        benchmarks=("voc21", "context60", "coco_object"),
    )


CC12M = _recipe(("data/cc12m",), _CC12M)
CC15M = _recipe(("data/cc12m", "data/cc3m"), _CC12M + _CC3M)
RECIPE = _recipe(("data/cc12m", "data/cc3m", "data/redcaps"), _CC12M + _CC3M + _REDCAPS)

MINI = Recipe(
    model="s_seg/small",
    from_scratch=True,
    objective=Training(pseudo_masks=kmeans.Config("lite2", side=160), losses_at="grid"),
    data=MiniData(root="data", augmentation=PairAugmentation(size=128, area=(0.6, 1.0))),
    steps=2_000,
    batch_size=64,
    optimiser=Optimiser(rate=5e-4, weight_decay=0.05),
    # a tenth of the rate for what has seen ImageNet
    groups=(Group(_NO_DECAY, weight_decay=0.0), Group(("segmenter.network.backbone.*",), rate=0.1)),
    schedule=Schedule("cosine", warmup=0.05),
    clip=1.0,  # a small batch has steep moments
    checkpoint_every=250,
)

MINI_FROM_SCRATCH = replace(
    MINI,
    config=replace(VARIANTS["small"].config, start_from=None),
    objective=Training(pseudo_masks=kmeans.Config("colours", side=32), losses_at="grid"),
    groups=(Group(_NO_DECAY, weight_decay=0.0),),
)

TOY = Recipe(
    model="s_seg/tiny",
    objective=Training(pseudo_masks=kmeans.Config("asset:mini-clip", k=4, side=32)),
    data=ScenePairData(scenes=Scenes(count=128, size=64), augmentation=PairAugmentation(size=64)),
    steps=30,
    batch_size=8,
    optimiser=Optimiser(rate=2e-3),
    clip=1.0,
    log_every=5,
    checkpoint_every=15,
)
