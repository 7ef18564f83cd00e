"""Tells models apart, so that each classifies its own embeddings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import torch
from torch import nn

from lexiseg import settings
from lexiseg.encoders.text_cache import hash_tensors
from lexiseg.segmenter import Segmenter

__all__ = ["fingerprint", "weights_digest"]

NUMBERS = 64  # of each weight that are looked at, spread evenly


def weights_digest(segmenter: object) -> str | None:
    """Hash of all weights; None for a segmenter that has none."""
    return hash_tensors(segmenter.state_dict())[:16] if isinstance(segmenter, nn.Module) else None


def fingerprint(segmenter: Segmenter[Any, Any]) -> str:
    """Hash of the method, the settings that decide its embeddings, and some numbers of each weight.

    Take it before weights are cast: numbers that were rounded give another one.
    """
    digest = hashlib.sha256(type(segmenter).__qualname__.encode())
    if dataclasses.is_dataclass(segmenter.config):
        own = settings.to_json(segmenter.config)
        late = segmenter.traits.classify_settings
        digest.update(json.dumps({key: value for key, value in own.items() if key not in late}).encode())
    if isinstance(segmenter, nn.Module):
        for name, tensor in segmenter.state_dict().items():
            digest.update(f"{name} {list(tensor.shape)}".encode())
            some = tensor.detach().flatten()[:: tensor.numel() // NUMBERS + 1]
            digest.update(some.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()[:16]
