"""Opens CLIP's text side alone.

It is for models that bring an image tower of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_shape import build
from lexiseg.encoders.tokenizer import Tokenizer

__all__ = ["ClipText"]


class ClipText(Clip):
    """What a `Clip` does with words; it has no image tower, so nothing that concerns images works.

    Whatever weights torch starts with; `of` shares those of a CLIP.
    """

    def __init__(self, config: Mapping[str, Any], tokenizer: Tokenizer) -> None:
        nn.Module.__init__(self)
        self.config = copy.deepcopy(dict(config))
        _, self.text_model, self.text_projection = build(self.config)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.tokenizer = tokenizer
        self._digest: tuple[str, str] | None = None
        self._check_tokenizer()

    @classmethod
    def of(cls, clip: Clip) -> ClipText:
        """The text side of `clip`, sharing its modules."""
        with torch.device("meta"):
            text = cls(clip.config, clip.tokenizer)
        text.text_model, text.text_projection, text.log_scale = clip.text_model, clip.text_projection, clip.log_scale
        return text

    @classmethod
    def empty(cls, config: Mapping[str, Any], tokenizer: Tokenizer) -> ClipText:
        """Without weights, on the meta device, for `encoders.weights.fit`."""
        with torch.device("meta"):
            text = cls(config, tokenizer)
        text._with_positions()
        return text

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.text_projection.out_features)
