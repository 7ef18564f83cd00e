"""Holds the test pipelines that several methods' authors share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["GROUPVIT", "MMSEG"]

# OpenCV's bilinear on bytes, ImageNet's statistics: mmsegmentation's pipeline
MMSEG: Mapping[str, Any] = {
    "statistics": "imagenet",
    "antialias": False,
    "size": None,
    "short_side": 512,
    "long_side": 2048,
    "blend": "logits",
}

GROUPVIT: Mapping[str, Any] = {
    "statistics": "imagenet",
    "antialias": False,
    "short_side": 448,
    "long_side": 2048,
    "window": 448,
    "stride": 224,
    "blend": "logits",
    "prompts": "single",
}
