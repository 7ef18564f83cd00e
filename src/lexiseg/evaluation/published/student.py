"""Lists the protocols of students, by the system that taught them."""

from __future__ import annotations

from lexiseg.evaluation.protocols import Study, row
from lexiseg.evaluation.published._pipelines import GROUPVIT, MMSEG

__all__ = ["STUDIES"]

_MASKCLIP_PLUS = Study(
    name="maskclip_plus",
    source="maskclip_plus.md §3.3 (splits), §3.6 (the test pipeline of maskclip.md §2.2)",
    variants=("deeplabv2-r50", "deeplabv2-r101", "deeplabv3plus-r101"),
    settings=MMSEG,
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

_S_SEG_PLUS = Study(
    name="s_seg_plus",
    source="S-Seg evaluates both models alike and names GroupViT's pipeline (s_seg.md §4.6); no code was released",
    variants=("upernet-mae-b16",),
    settings=GROUPVIT,
    rows={"voc21": row("groupvit"), "context60": row("groupvit"), "coco_object": row()},
)

STUDIES = (_MASKCLIP_PLUS, _S_SEG_PLUS)
