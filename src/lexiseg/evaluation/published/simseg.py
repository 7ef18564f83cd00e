"""Lists the protocols of SimSeg."""

from __future__ import annotations

from lexiseg.evaluation.protocols import Study, row

__all__ = ["STUDIES"]

_RELEASED = Study(
    name="released",
    source="simseg.md §2.5 (algorithm), §6.2 (protocol), §6.3 (class names)",
    variants=("vit-s16", "vit-b16"),
    preset="released",
    settings={"size": (288, 288), "statistics": "imagenet", "prompts": "imagenet80"},
    rows={
        "voc21": row("groupvit", ranked_classes=10),
        "context60": row("simseg", ranked_classes=30),
        "coco_object": row(ranked_classes=10),
    },
)

STUDIES = (_RELEASED,)
