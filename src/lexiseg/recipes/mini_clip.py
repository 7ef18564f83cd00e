"""The embedded CLIP, from random weights: photographs, then scenes made of them, then larger ones (issue D, spec mini).

Before the first run the words are prepared, once: `lexiseg.data.meanings.prepare` with `MiniPairs(root).concepts`.
The rate is constant but for a warm-up, and falls in the last stage alone, so that the first two can be made longer at
any time: `--set` more steps, `--resume --allow-changes`. Candidates are compared on `masked.held_out` photographs.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg.data.concept_images import CanvasConcepts, PhotographConcepts, SceneConcepts
from lexiseg.data.descriptions import Workers
from lexiseg.data.mini import Mini
from lexiseg.data.scenes import Scenes, class_names
from lexiseg.methods.mini_clip import Config, Settings
from lexiseg.training.recipe import Group, Optimiser, Recipe, Schedule

__all__ = ["MINI", "TOY"]

_ROOT, _WORDS = "data", "data/mini-words.safetensors"

_PHOTOGRAPHS = Recipe(
    model="mini_clip/mini",
    config=Config("base"),
    from_scratch=True,
    objective=Settings(words=_WORDS, keep=0.5),
    data=PhotographConcepts(_ROOT, _WORDS, workers=Workers(1)),
    steps=16_000,
    batch_size=64,
    optimiser=Optimiser(rate=1e-3, weight_decay=0.05, betas=(0.9, 0.98)),
    groups=(Group(("*.bias", "*norm*", "*embedding*", "*log_scale"), weight_decay=0.0),),
    schedule=Schedule("constant", warmup=0.03),
    precision="bf16_weights",
    clip=1.0,
    ema=0.998,
    checkpoint_every=250,
    log_every=50,
)
_CANVASES = replace(
    _PHOTOGRAPHS,
    data=CanvasConcepts(_ROOT, _WORDS, pairs=Mini(masked=0.5, canvases=1_000_000), workers=Workers(1)),
    steps=4000,
    batch_size=32,
    optimiser=replace(_PHOTOGRAPHS.optimiser, rate=5e-4),
    schedule=Schedule("constant", warmup=0.02),
)
_LARGER = replace(
    _CANVASES,
    objective=Settings(words=_WORDS, keep=1.0),
    data=CanvasConcepts(
        _ROOT, _WORDS, pairs=Mini(size=192, masked=0.5, canvases=1_000_000, seed=1), workers=Workers(1)
    ),
    steps=500,
    batch_size=16,
    optimiser=replace(_PHOTOGRAPHS.optimiser, rate=5e-5),
    schedule=Schedule("cosine", warmup=0.02),
)

MINI = (_PHOTOGRAPHS, _CANVASES, _LARGER)

TOY = Recipe(
    model="mini_clip/tiny",
    objective=Settings(concepts=len(class_names()), keep=0.5),
    data=SceneConcepts(Scenes(count=64, size=32)),
    steps=60,
    batch_size=16,
    optimiser=Optimiser(rate=2e-3),
    schedule=Schedule("cosine", warmup=0.1),
    clip=1.0,
    log_every=10,
    checkpoint_every=30,
)
