"""Lists the protocols of GroupViT."""

from __future__ import annotations

from lexiseg.evaluation.protocols import Study, row
from lexiseg.evaluation.published._pipelines import GROUPVIT

__all__ = ["STUDIES"]

_RELEASED = Study(
    name="released",
    source="GroupViT: thresholds of the released configurations; simseg.md §6.2",
    variants=("cc-yfcc", "cc-redcaps"),
    settings=GROUPVIT,
    rows={
        "voc21": row("groupvit", product_threshold=0.95),
        "context60": row("groupvit", product_threshold=0.35),
        "coco_object": row(product_threshold=0.95),
    },
)

_PAPER = Study(
    name="paper",
    source="GroupViT: the paper's thresholds",
    variants=("cc-yfcc", "cc-redcaps"),
    settings=GROUPVIT,
    rows={
        "voc21": row("groupvit", product_threshold=0.9),
        "context60": row("groupvit", product_threshold=0.5),
    },
)

STUDIES = (_RELEASED, _PAPER)
