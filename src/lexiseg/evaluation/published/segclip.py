"""Lists the protocols of SegCLIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lexiseg.evaluation.protocols import Study, row

__all__ = ["STUDIES"]

_SETTINGS: Mapping[str, Any] = {
    "statistics": "clip",
    "antialias": False,
    "short_side": 224,
    "long_side": 2048,
    "window": 224,
    "stride": 224,
    "blend": "logits",
    "prompts": "single",
}

_RELEASED = Study(
    name="released",
    source="SegCLIP: thresholds of the released configurations; simseg.md §6.2",
    variants=("vit-b16",),
    settings=_SETTINGS,
    rows={
        "voc21": row("groupvit", product_threshold=0.80),
        "context60": row("groupvit", product_threshold=0.25),
        "coco_object": row(product_threshold=0.65),
    },
)

_PAPER = Study(
    name="paper",
    source="SegCLIP: the paper's threshold on VOC; which of the two gave the published 52.6 is not said",
    variants=("vit-b16",),
    settings=_SETTINGS,
    rows={"voc21": row("groupvit", product_threshold=0.75)},
)

STUDIES = (_RELEASED, _PAPER)
