"""Trains the embedded CLIP.

Names and the trunk's own classes come first, then masks.

    lexiseg train mini_clip --mini --data ROOT --set data.cache=CACHE --out runs/mini
    lexiseg train mini_clip/words --out runs/words

Where the words lie was decided once, by `tools/training/places.py`. Both towers learn the same fixed places, so the two
runs may go side by side; `tools/training/join.py` puts them together. Then `tools/familiar_words.py` lists the words
that the model knows, and `tools/model_card.py` measures and shows it.

WORDS_ONLY sees no mask: it is taught by names and by what the trunk itself says of photographs, and is the start for
claims about learning without masks. Candidates are compared on photographs that no sample shows
(`data.mini.concept_crops.kept_aside`).
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.mini.concept_crops import ConceptCrops, Crops, SceneCrops
from lexiseg.data.mini.concept_images import WordConcepts
from lexiseg.data.opening import Workers
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.methods.mini_clip import Config, Training, WordTraining
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["LAST", "MASKS", "MINI", "RECIPE", "TOY", "WORDS", "WORDS_ONLY"]

_ROOT, _PLACES = "data", "tools/training/places.safetensors"
_ADAMW = Optimiser(rate=2e-3, weight_decay=0.05, betas=(0.9, 0.98))
_FROZEN = Group(("segmenter.clip.text*", "segmenter.clip.vision.lite.*", "segmenter.clip.vision.head.*"), frozen=True)
_PLAIN = Group(("*.bias", "*log_scale"), weight_decay=0.0)

WORDS_ONLY = Recipe(
    name="words_only",
    model="mini_clip/start",
    objective=Training(
        words=_PLACES, trunk="lite2", dense=0.0, absent=0.0, cells=0.5, whole=0.5, image=0.5, measure=50
    ),
    data=ConceptCrops(_ROOT, _PLACES, crops=Crops(sheets=12), workers=Workers(1)),
    steps=800,
    batch_size=4,
    optimiser=_ADAMW,
    groups=(_PLAIN, _FROZEN),
    schedule=Schedule("cosine", warmup=0.05),
    precision="bf16_weights",
    clip=1.0,
    checkpoint_every=200,
    log_every=50,
)
MASKS = replace(
    WORDS_ONLY,
    name="masks",
    objective=Training(words=_PLACES, trunk="lite2"),
    data=replace(WORDS_ONLY.data, crops=Crops(sheets=2)),
    steps=1_400,
    batch_size=8,
    optimiser=replace(_ADAMW, rate=1.5e-3),
    ema=0.998,
)
# places once more, with less of what keeps ImageNet's classes, which stay all the same
LAST = replace(
    MASKS,
    name="last",
    objective=replace(MASKS.objective, cells=0.1, whole=0.2, image=0.2),
    data=replace(MASKS.data, crops=Crops(sheets=1)),
    steps=900,
    optimiser=replace(_ADAMW, rate=1e-3),
)
MINI = (WORDS_ONLY, MASKS, LAST)
RECIPE = MINI  # nothing larger has been tried

WORDS = Recipe(
    model="mini_clip/start",
    config=Config(text_tower="asset:mini-clip"),  # which knows the words that it was taught, at other places
    objective=WordTraining(_PLACES),
    data=WordConcepts(_PLACES, sentences=8, workers=Workers(1)),
    steps=6_000,
    batch_size=32,
    optimiser=replace(_ADAMW, rate=1e-3),
    groups=(
        Group(("*.bias", "*norm*", "*embedding*"), weight_decay=0.0),
        Group(("segmenter.clip.vision.*", "*log_scale"), frozen=True),
    ),
    schedule=Schedule("cosine", warmup=0.05),
    precision="bf16_weights",
    clip=1.0,
    ema=0.998,
    checkpoint_every=500,
    log_every=100,
)

TOY = Recipe(
    model="mini_clip/tiny",
    objective=Training(concepts=len(class_names()), measure=10),
    data=SceneCrops(Scenes(count=64, size=64)),
    steps=60,
    batch_size=16,
    optimiser=Optimiser(rate=2e-3),
    groups=(Group(("segmenter.clip.text*",), frozen=True),),
    schedule=Schedule("cosine", warmup=0.1),
    clip=1.0,
    log_every=10,
    checkpoint_every=30,
)
