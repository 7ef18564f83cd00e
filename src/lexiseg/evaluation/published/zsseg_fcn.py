"""Protocols of ZSSeg's FCN."""

from __future__ import annotations

from lexiseg.evaluation.protocols import Study, row

__all__ = ["STUDIES"]

# windows, sizes and flips are the preset's; the paper tunes the cross-data-set prompts as those of its rival
_RELEASED = Study(
    name="released",
    source="ZSSeg's code and Tables 1-3: sizes as for its rival, one ensemble weight, data-set names as words",
    variants=("rn101",),
    preset="released",
    settings={"short_side": 512, "long_side": 2048, "blend": "logits", "ensemble_weight": 0.7},
    rows={
        "coco_stuff_156_15": row(short_side=640, long_side=2560),
        "voc_15_5": row(),
        "ade150": row("zsseg", prompts="vild14"),
        "ade847": row("zsseg", prompts="vild14"),
        "cityscapes19": row(prompts="vild14", short_side=1024),
        "context59": row("zsseg", prompts="vild14"),
    },
)

STUDIES = (_RELEASED,)
