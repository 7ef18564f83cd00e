"""Trains S-Seg+, students of S-Seg.

A student learns a data set's classes from what S-Seg says of its unlabelled photographs. Unofficial.

S-Seg labels the training photographs once, and a student learns these labels as if somebody had drawn them
(docs/papers/s_seg.md §4.7). The paper's student is UperNet on MAE's ViT-B/16; its layers learn the more slowly the
earlier they are. Nothing here is S-Seg's alone: any model may be the teacher, and any student of the method `student`
may learn.

RECIPE is the user's job: your words and photographs, a teacher that labels them while the student looks at them.

    lexiseg train s_seg_plus --set teacher=runs/s_seg/model --set words="cat, grass, sky" --data photos/

VOC, CONTEXT and COCO are the paper's, each with a teacher of 12, 15 or 26 M pairs, which a run of recipes/s_seg.py has
left in runs/s_seg-12m, -15m or -26m; none of them has been run here. Open in the paper, and chosen here: the teacher's
threshold for the background (choose it on the training split), the crop, that every pixel is learned, however unsure
the teacher was, and what does not decay. The classifier is made of the teacher's text vectors, which are more than the
classes, so the student can say what a linear classifier could.

MINI is the same on photographs of MSRC, with the small student, by the teacher that `s_seg --mini` left in runs/s_seg.
TOY is on drawn scenes.
"""

from __future__ import annotations

from dataclasses import replace

from lexiseg import catalog
from lexiseg.data.labelled.dense import DenseAugmentation
from lexiseg.data.labelled.descriptions import PhotographData
from lexiseg.data.mini.descriptions import MaskedData
from lexiseg.data.opening import Workers
from lexiseg.data.scenes import class_names
from lexiseg.methods.student import VARIANTS, Config, Training
from lexiseg.networks.student_network import StudentShape
from lexiseg.recipes import maskclip_plus
from lexiseg.recipes.maskclip_plus import MSRC
from lexiseg.training.benchmark_data import BenchmarkData
from lexiseg.training.recipe import Group, Labelling, Optimiser, Recipe, Schedule, Stage

__all__ = [
    "COCO_12M",
    "COCO_15M",
    "COCO_26M",
    "CONTEXT_12M",
    "CONTEXT_15M",
    "CONTEXT_26M",
    "MINI",
    "RECIPE",
    "TOY",
    "VOC_12M",
    "VOC_15M",
    "VOC_26M",
    "layerwise",
]

DECAY, LAYERS = 0.7, 12
WARMUP_STEPS = 1_500
THRESHOLD = 0.5  # posterior below which the teacher says background; the paper gives none

_NO_DECAY = Group(("*.bias", "*norm*", "*embeddings.cls_token", "*position_embeddings"), weight_decay=0.0)


def layerwise(decay: float, layers: int, *, model: str = "segmenter.network.backbone.model") -> tuple[Group, ...]:
    """Rates of a ViT's layers (Clark et al., "ELECTRA", 2020): `decay` for the last one, its square for the one before.

    The embeddings count as one layer more, and everything behind the ViT keeps the full rate.
    """
    embeddings = Group((f"{model}.embeddings.*",), rate=decay ** (layers + 1))
    blocks = (Group((f"{model}.*layer*.{at}.*",), rate=decay ** (layers - at)) for at in range(layers))
    return (embeddings, *blocks)


_CROPS = DenseAugmentation(crop=(128, 128), scale=(256, 256), ratio=(0.75, 1.5), most_of_one=1.0)

RECIPE = replace(
    maskclip_plus.RECIPE,
    teacher="s_seg/small",
    config=Config(),
    objective=Training(),
    data=PhotographData(("photographs",), _CROPS, workers=Workers(1)),
)

# --- the paper's


def _plus(benchmark: str, pairs: str, *, steps: int) -> tuple[Stage, ...]:
    teacher = f"runs/s_seg-{pairs}/model"
    words = catalog.get("benchmarks", benchmark).BENCHMARK.vocabulary(
        "groupvit" if benchmark != "coco_object" else None
    )
    data = BenchmarkData(
        benchmark,
        wording="groupvit" if benchmark != "coco_object" else None,
        labels="none",
        augmentation=DenseAugmentation(crop=(512, 512), scale=(2048, 512)),
        workers=Workers(8),
    )
    student = Recipe(
        model="student/upernet-mae-b16",
        from_scratch=True,
        config=replace(VARIANTS["upernet-mae-b16"].config, words=words.as_texts(), learn_background=True),
        objective=Training(guided=False),
        teacher=teacher,  # for the words alone
        data=replace(data, pseudo_labels="@labels"),
        steps=steps,
        batch_size=16,
        optimiser=Optimiser(rate=1e-4, weight_decay=0.05),
        groups=(_NO_DECAY, *layerwise(DECAY, LAYERS)),
        schedule=Schedule("poly", warmup=WARMUP_STEPS / steps, power=1.0),
        precision="bf16",
        benchmarks=(benchmark,),
    )
    return Labelling(name="labels", teacher=teacher, teacher_settings={"own_background": THRESHOLD}, data=data), student


VOC_12M, VOC_15M, VOC_26M = (_plus("voc21", pairs, steps=20_000) for pairs in ("12m", "15m", "26m"))
CONTEXT_12M, CONTEXT_15M, CONTEXT_26M = (_plus("context60", pairs, steps=40_000) for pairs in ("12m", "15m", "26m"))
COCO_12M, COCO_15M, COCO_26M = (_plus("coco_object", pairs, steps=80_000) for pairs in ("12m", "15m", "26m"))

# --- small ones

_PHOTOGRAPHS = MaskedData("data", shards=("msrc",), label_free=True, augmentation=_CROPS)

MINI = (
    Labelling(name="labels", teacher="runs/s_seg/model", data=_PHOTOGRAPHS),
    replace(
        maskclip_plus.MINI,
        config=Config(words=MSRC),
        objective=Training(guided=False),
        teacher="runs/s_seg/model",
        data=replace(_PHOTOGRAPHS, pseudo_labels="@labels"),
    ),
)

TOY = replace(
    maskclip_plus.TOY,
    config=Config(StudentShape("upernet", "tiny", output_stride=32), words=class_names()),
    teacher="s_seg/tiny",
    batch_size=6,
    steps=30,
    checkpoint_every=15,
)
