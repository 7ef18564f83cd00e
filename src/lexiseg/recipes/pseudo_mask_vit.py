"""Trains the pseudo-mask ViT, S-Seg's second baseline.

It sees CC12M, as S-Seg itself (docs/papers/s_seg.md §4.8). Unofficial.

RECIPE has S-Seg's own settings for the same pairs, since the paper names no others, and has not been run here. MINI is
the same on the miniature pairs, with S-Seg's pseudo-masks there, TOY on drawn scenes.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.scene_data import ScenePairData
from lexiseg.data.scenes import Scenes
from lexiseg.data.transforms import PairAugmentation
from lexiseg.methods.pseudo_mask_vit import VARIANTS, Training
from lexiseg.proposals import kmeans
from lexiseg.recipes import s_seg
from lexiseg.training.recipe import Group, Optimiser

__all__ = ["MINI", "RECIPE", "TOY"]

_NO_DECAY = (Group(("*.bias", "*norm*", "*_embedding.weight", "*class_embedding", "*_scale"), weight_decay=0.0),)

RECIPE = replace(s_seg.CC12M, model="pseudo_mask_vit/vit-b16", objective=Training(), groups=_NO_DECAY)
MINI = replace(s_seg.MINI, model="pseudo_mask_vit/small", objective=Training(), groups=_NO_DECAY)
TOY = replace(
    s_seg.TOY,
    model="pseudo_mask_vit/tiny",
    config=replace(VARIANTS["tiny"].config, pseudo_masks=kmeans.Config("asset:mini-clip", k=4, side=32)),
    objective=Training(),
    data=ScenePairData(scenes=Scenes(count=128, size=32), augmentation=PairAugmentation(size=32)),
    steps=40,
    batch_size=16,
    optimiser=Optimiser(rate=2e-3),
    checkpoint_every=20,
)
