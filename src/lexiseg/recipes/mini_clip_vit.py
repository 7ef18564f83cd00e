"""Trains the small ViT CLIP on scenes, then its words.

docs/log.md has the tries.

MINI goes on from the embedded model, WORDS teaches sentences to the text tower alone, RECIPE starts from random ones.
Where the words lie was decided once, by `lexiseg.data.mini.meanings.prepare`, and is kept in `tools/training`.

    lexiseg train mini_clip_vit --mini --data ROOT --set data.cache=CACHE --out runs/mini
    lexiseg train mini_clip_vit/words --set weights=runs/mini/model

Both towers learn the same fixed places, so the two may also run side by side and be put together afterwards. Then
`tools/familiar_words.py` lists the words that the model knows, and `tools/model_card.py` measures and shows it.

The rate is constant until the last stage, where it falls: so the stage before can be made longer at any time (more
steps, `--resume --allow-changes`), and a saved folder is a place to go on from (`--set weights=FOLDER`). Candidates are
compared on the photographs of `data.masked.held_out`, which no sample here shows; the first embedded model, where all
later ones began, had seen them.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.mini.concept_images import CanvasConcepts, PhotographConcepts, SceneConcepts, WordConcepts
from lexiseg.data.mini.pairs import Mini
from lexiseg.data.opening import Workers
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.methods.mini_clip_vit import Config, Training
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["MINI", "RECIPE", "RESNET", "TOY", "WORDS"]

_ROOT, _PLACES = "data", "tools/training/mini-words.safetensors"
_ADAMW = Optimiser(weight_decay=0.05, betas=(0.9, 0.98))
_MUON = replace(_ADAMW, name="muon")  # fewer steps than AdamW for the same loss (docs/log.md)

_PHOTOGRAPHS = Recipe(
    model="mini_clip_vit/mini",
    config=Config("base"),
    objective=Training(words=_PLACES, keep=0.5),
    data=PhotographConcepts(_ROOT, _PLACES, workers=Workers(1)),
    steps=2_000,
    batch_size=64,
    optimiser=replace(_MUON, rate=1e-3),
    groups=(Group(("*.bias", "*norm*", "*embedding*", "*log_scale"), weight_decay=0.0),),
    schedule=Schedule("constant", warmup=0.1),
    precision="bf16_weights",
    clip=1.0,
    ema=0.998,
    checkpoint_every=250,
    log_every=50,
)
_PAIRS = Mini(masked=0.3, cells=(0.25, 0.25, 0.2, 0.3), canvases=1_000_000, seed=3)
_CANVASES = replace(
    _PHOTOGRAPHS,
    objective=Training(words=_PLACES, keep=0.5),
    data=CanvasConcepts(_ROOT, _PLACES, pairs=_PAIRS, workers=Workers(1)),
    steps=7_900,
    batch_size=32,
    optimiser=replace(_MUON, rate=1e-3),
    schedule=Schedule("constant", warmup=0.02),
)
_LARGER = replace(
    _CANVASES,
    objective=Training(words=_PLACES, keep=0.6),
    data=replace(_CANVASES.data, pairs=replace(_PAIRS, size=192, cells=(0.15, 0.3, 0.25, 0.3), seed=4)),
    steps=560,
    optimiser=replace(_MUON, rate=3e-4),
    schedule=Schedule("cosine", warmup=0.02),
)

# the text tower alone: cheap, and independent of the pictures, since both towers learn the same fixed places
WORDS = replace(
    _PHOTOGRAPHS,
    data=WordConcepts(_PLACES, sentences=8, workers=Workers(1)),
    steps=2_500,
    batch_size=32,
    optimiser=replace(_ADAMW, rate=1e-3),
    groups=(*_PHOTOGRAPHS.groups, Group(("segmenter.clip.vision.*", "*log_scale"), frozen=True)),
    schedule=Schedule("cosine", warmup=0.05),
)

# a CLIP-ResNet beside the embedded text tower, from random weights
_FROZEN_TEXT = Group(("segmenter.clip.text*",), frozen=True)
_RESNET_PHOTOGRAPHS = replace(
    _PHOTOGRAPHS,
    model="mini_clip_vit/resnet",
    from_scratch=True,
    config=Config("base-rn", text_tower="asset:mini-clip"),
    objective=Training(words=_PLACES, keep=0.25, text=0.0),
    steps=2_400,
    batch_size=128,
    optimiser=replace(_ADAMW, rate=2e-3),
    groups=(*_PHOTOGRAPHS.groups, _FROZEN_TEXT),
    schedule=Schedule("cosine", warmup=0.02, floor=0.2),
    ema=None,  # running statistics of batches are not averaged
)
_RESNET_CANVASES = replace(
    _RESNET_PHOTOGRAPHS,
    data=replace(_CANVASES.data, pairs=Mini(masked=0.4, cells=(0.4, 0.4, 0.2, 0.0), canvases=1_000_000, seed=5)),
    steps=500,
    batch_size=64,
    optimiser=replace(_ADAMW, rate=5e-4),
    schedule=Schedule("cosine", warmup=0.02),
)
RESNET = (_RESNET_PHOTOGRAPHS, _RESNET_CANVASES)

# about six hours of one core, says --dry-run; not run
RECIPE = (
    replace(
        _PHOTOGRAPHS,  # at half their size first, which learns more in the same time (docs/log.md)
        from_scratch=True,
        objective=Training(words=_PLACES, keep=1.0),
        data=replace(_PHOTOGRAPHS.data, size=32),
        steps=12_000,
    ),
    replace(_PHOTOGRAPHS, from_scratch=True, steps=6_000),
    replace(_CANVASES, from_scratch=True, steps=12_000),
    replace(_LARGER, from_scratch=True),
)

MINI = (_CANVASES, _LARGER)

TOY = Recipe(
    model="mini_clip_vit/tiny",
    objective=Training(concepts=len(class_names()), keep=0.5),
    data=SceneConcepts(Scenes(count=64, size=32)),
    steps=60,
    batch_size=16,
    optimiser=Optimiser(rate=2e-3),
    schedule=Schedule("cosine", warmup=0.1),
    clip=1.0,
    log_every=10,
    checkpoint_every=30,
)
