"""What the authors of each method measured with, as tables: a row for each benchmark. Values only.

Sections (§) are those of the pages in docs/papers. A setting that no paper and no code states is left to the method's
default, and the source says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lexiseg.errors import SettingError, UnknownName
from lexiseg.evaluation.protocols import BACKGROUND_WORDS, LEXISEG, Protocol, Study, row

__all__ = ["STUDIES", "named", "protocol"]

# OpenCV's bilinear on bytes, ImageNet's statistics: mmsegmentation's pipeline
_MMSEG: Mapping[str, Any] = {
    "statistics": "imagenet",
    "antialias": False,
    "size": None,
    "short_side": 512,
    "long_side": 2048,
}

MASKCLIP = Study(
    method="maskclip",
    name="released",
    source="maskclip.md §2.2 (sizes), §2.9 (class names, templates): paper, Table 1, and the model zoo",
    variants=("vit-b16", "rn50", "rn50x16"),
    preset="released",
    rows={
        "voc20": row("maskclip"),
        "context59": row("maskclip", short_side=None, long_side=520),
        "coco_stuff171": row("maskclip"),
        "ade150": row("mmseg"),
        "cityscapes19": row(long_side=1024),
    },
)

MASKCLIP_PAPER = Study(
    method="maskclip",
    name="paper",
    source="maskclip.md §2.12: the text says 512 x 512 and does not state the normalisation",
    variants=("vit-b16", "rn50"),
    preset="paper",
    rows={"context59": row("maskclip"), "coco_stuff171": row("maskclip")},
)

# MaskCLIP as later papers re-run it, and every training-free method since SCLIP
TRAINING_FREE = Study(
    method="maskclip",
    name="training_free",
    source="sizes, windows, word list, posterior threshold 0.1 and logit scale 40 of SCLIP and NACLIP; "
    "that context60 asks for the literal word is our reading",
    variants=(),
    settings={
        "short_side": 336,
        "long_side": None,
        "window": 224,
        "stride": 112,
        "blend": "logits",
        "templates": "imagenet80",
        "logit_scale": 40.0,
    },
    rows={
        "voc21": row("sclip", background="sclip", background_threshold=0.1),
        "context60": row(background="background", background_threshold=0.1),
        "coco_object": row(background="sclip", background_threshold=0.1),
        "voc20": row(),
        "cityscapes19": row(short_side=560),
        "context59": row(),
        "ade150": row(),
        "coco_stuff171": row(),
    },
)

MASKCLIP_PLUS = Study(
    method="student",
    name="maskclip_plus",
    source="maskclip_plus.md §3.3 (splits), §3.6 (the test pipeline of maskclip.md §2.2)",
    variants=("deeplabv2-r50", "deeplabv2-r101", "deeplabv3plus-r101"),
    settings=_MMSEG,
    rows={
        "voc20": row("maskclip"),
        "context59": row("maskclip", short_side=None, long_side=520),
        "coco_stuff171": row("maskclip"),
        "ade150": row("mmseg"),
        "cityscapes19": row(long_side=1024),
        "voc_15_5": row("maskclip"),
        "voc21_15_5": row("maskclip"),
        "context_50_10": row("maskclip", short_side=None, long_side=520),
        "coco_stuff_156_15": row("maskclip"),
    },
)

ZSSEG = Study(
    method="zsseg",
    name="released",
    source="ZSSeg's code: sizes, data-set names as prompts; per data set ensemble weight, mask threshold, prompts",
    variants=("rn101",),
    settings={"statistics": "imagenet", "short_side": 512, "long_side": 2048},
    rows={
        "coco_stuff_156_15": row(
            ensemble_weight=0.8, mask_threshold=0.5, prompts="learned", short_side=640, long_side=2560
        ),
        "voc_15_5": row(ensemble_weight=0.7, mask_threshold=0.5, prompts="learned_regions"),
        "ade150": row("zsseg", ensemble_weight=0.5, mask_threshold=0.4, templates="vild14"),
        "ade847": row("zsseg", ensemble_weight=0.7, mask_threshold=0.3, templates="vild14"),
        "cityscapes19": row(ensemble_weight=0.4, mask_threshold=0.3, templates="vild14", short_side=1024),
        "context59": row("zsseg", ensemble_weight=0.4, mask_threshold=0.5, templates="vild14"),
        "voc20": row(ensemble_weight=0.4, mask_threshold=0.5, prompts="learned"),
    },
)

SIMSEG = Study(
    method="simseg",
    name="released",
    source="simseg.md §2.5 (algorithm), §6.2 (protocol), §6.3 (class names)",
    variants=("vit-s16", "vit-b16"),
    preset="released",
    settings={"size": (288, 288), "statistics": "imagenet", "templates": "imagenet80"},
    rows={
        "voc21": row("groupvit", ranked_classes=10),
        "context60": row("simseg", ranked_classes=30),
        "coco_object": row(ranked_classes=10),
    },
)

_SEGCLIP: Mapping[str, Any] = {
    "statistics": "clip",
    "antialias": False,
    "short_side": 224,
    "long_side": 2048,
    "window": 224,
    "stride": 224,
    "blend": "logits",
    "templates": "single",
}

SEGCLIP = Study(
    method="segclip",
    name="released",
    source="SegCLIP: thresholds of the released configurations; simseg.md §6.2",
    variants=("vit-b16",),
    settings=_SEGCLIP,
    rows={
        "voc21": row("groupvit", product_threshold=0.80),
        "context60": row("groupvit", product_threshold=0.25),
        "coco_object": row(product_threshold=0.65),
    },
)

SEGCLIP_PAPER = Study(
    method="segclip",
    name="paper",
    source="SegCLIP: the paper's threshold on VOC; which of the two gave the published 52.6 is not said",
    variants=("vit-b16",),
    settings=_SEGCLIP,
    rows={"voc21": row("groupvit", product_threshold=0.75)},
)

_GROUPVIT: Mapping[str, Any] = {
    "statistics": "imagenet",
    "antialias": False,
    "short_side": 448,
    "long_side": 2048,
    "window": 448,
    "stride": 224,
    "blend": "logits",
    "templates": "single",
}

GROUPVIT = Study(
    method="groupvit",
    name="released",
    source="GroupViT: thresholds of the released configurations; simseg.md §6.2",
    variants=("cc-yfcc", "cc-redcaps"),
    settings=_GROUPVIT,
    rows={
        "voc21": row("groupvit", product_threshold=0.95),
        "context60": row("groupvit", product_threshold=0.35),
        "coco_object": row(product_threshold=0.95),
    },
)

GROUPVIT_PAPER = Study(
    method="groupvit",
    name="paper",
    source="GroupViT: the paper's thresholds",
    variants=("cc-yfcc", "cc-redcaps"),
    settings=_GROUPVIT,
    rows={
        "voc21": row("groupvit", product_threshold=0.9),
        "context60": row("groupvit", product_threshold=0.5),
    },
)

# the paper says "consistent with GroupViT" and nothing else; no code was released
S_SEG = Study(
    method="s_seg",
    name="paper",
    source="S-Seg names GroupViT's pipeline; templates are a guess, and the thresholds of the sets with a background "
    "are not published: choose background_threshold on the training split",
    variants=("swin-s",),
    settings=_GROUPVIT,
    rows={
        "voc21": row("groupvit"),
        "context60": row("groupvit"),
        "coco_object": row(),
        "voc20": row("groupvit"),
        "context59": row("groupvit"),
        "coco80": row(),
        "lvis1103": row(),
        "imagenet_s919": row(),
    },
)

STUDIES = (
    MASKCLIP,
    MASKCLIP_PAPER,
    TRAINING_FREE,
    MASKCLIP_PLUS,
    ZSSEG,
    SIMSEG,
    SEGCLIP,
    SEGCLIP_PAPER,
    GROUPVIT,
    GROUPVIT_PAPER,
    S_SEG,
)


def protocol(
    method: str, benchmark: str, name: str | None = None, *, variant: str | None = None, own_background: bool = False
) -> Protocol:
    """The protocol called `name`, or the method's own.

    variant: the variant to be measured, which decides what the method's own protocol is.
    own_background: the method has a rule of its own for the background, so that "lexiseg" adds no words.

    Raises `UnknownName` for a name that this method has on no benchmark, `SettingError` for one that it has on others.
    """
    found = {study.name: study for study in _studies(method) if benchmark in study.rows}
    if name is None:
        measured = [study for study in found.values() if variant in study.variants]  # released before paper
        return measured[0].protocol(benchmark) if measured else _lexiseg(method, benchmark, own_background)
    if name == LEXISEG:
        return _lexiseg(method, benchmark, own_background)
    if name in found:
        return found[name].protocol(benchmark)
    elsewhere = {study.name: list(study.rows) for study in _studies(method)}
    if name in elsewhere:
        raise SettingError(
            f"{method} has no protocol {name!r} on {benchmark}; it has one on {', '.join(elsewhere[name])}, "
            f"and {LEXISEG!r} works everywhere"
        )
    raise UnknownName(f"protocol of {method}", name, [LEXISEG, *elsewhere])


def named(method: str) -> dict[str, list[str]]:
    """The published protocols of a method, each with the benchmarks it has."""
    found: dict[str, list[str]] = {}
    for study in _studies(method):
        found.setdefault(study.name, []).extend(study.rows)
    return found


def _lexiseg(method: str, benchmark: str, own_background: bool) -> Protocol:
    return Protocol(
        method,
        benchmark,
        LEXISEG,
        "the variant's own settings",
        background=None if own_background else BACKGROUND_WORDS,
    )


def _studies(method: str) -> Iterator[Study]:
    return (study for study in STUDIES if study.method == method)
