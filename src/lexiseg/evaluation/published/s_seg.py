"""Lists the protocols of S-Seg."""

from __future__ import annotations

from lexiseg.evaluation.protocols import Study, row
from lexiseg.evaluation.published._pipelines import GROUPVIT

__all__ = ["STUDIES"]

# the paper says "consistent with GroupViT" and nothing else; no code was released
_PAPER = Study(
    name="paper",
    source="S-Seg names GroupViT's pipeline; prompts are a guess, and the thresholds of the sets with a background "
    "are not published: choose background_threshold on the training split",
    variants=("swin-s",),
    settings=GROUPVIT,
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

STUDIES = (_PAPER,)
