"""Builds a text tower to be trained from scratch.

It is of CLIP's kind, with a projector in the projection's place.

GroupViT's text encoder, which S-Seg names too (docs/papers/s_seg.md §4.1): a causal transformer that is read at its end
token. The modules are transformers' own. Letters: N sentences, W width of the tower, D embedding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from lexiseg.encoders.clip_text import ClipText
from lexiseg.encoders.tokenizer import Tokenizer, pad
from lexiseg.encoders.weights import find
from lexiseg.errors import SettingError
from lexiseg.layers.projector import Projector
from lexiseg.segmenter import at_least_float32

__all__ = ["TextShape", "TextTransformer", "open_tokenizer"]

HEAD = 64  # channels of an attention head


@dataclass(frozen=True)
class TextShape:
    """width: W, a multiple of 64. layers: of the transformer. context: tokens in a row.

    The defaults are the paper's; the vocabulary is the tokenizer's.
    """

    width: int = 256
    layers: int = 12
    context: int = 77

    def __post_init__(self) -> None:
        if self.width < HEAD or self.width % HEAD:
            raise SettingError(f"width must be a multiple of {HEAD}, got {self.width}")
        for name, least in (("layers", 1), ("context", 3)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} must be {least} or more, got {getattr(self, name)}")

    def config(self, vocabulary: int) -> dict[str, Any]:
        """What transformers' `CLIPTextConfig` is made of; the last token of the vocabulary ends a sentence."""
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.width // HEAD,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "vocab_size": vocabulary,
            "max_position_embeddings": self.context,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 0,
        }


class TextTransformer(ClipText):
    """Random weights, and all that a `Clip` does with words: `embed_words`, prompts, the cache, `logit_scale`.

    config: as `TextShape.config` gives it. temperature: one over the logit scale, before training.
    """

    def __init__(
        self, config: Mapping[str, Any], projection: Projector, tokenizer: Tokenizer, *, temperature: float = 0.07
    ) -> None:
        nn.Module.__init__(self)
        self.config = dict(config)
        self.text_model = CLIPTextModel(CLIPTextConfig(**config))
        self.text_projection: Any = projection
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.tokenizer = tokenizer
        self._digest = None
        self._check_tokenizer()

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.text_projection.dimension)

    def vectors(self, sentences: list[str]) -> Tensor:
        """One unit vector for each sentence [N, D], in float32 or better, with gradients."""
        features = self.text_features(pad(self.tokenizer(sentences)).to(self.log_scale.device))
        return functional.normalize(at_least_float32(features), dim=1)

    def _text_tensors(self) -> dict[str, Tensor]:
        projector = {f"text_projection.{name}": tensor for name, tensor in self.text_projection.state_dict().items()}
        return {**self.text_model.state_dict(), **projector}


def open_tokenizer(source: str | os.PathLike[str], context: int) -> Tokenizer:
    """Of a folder, a hub id, "asset:NAME" or OpenAI's merges file; raises `WeightsError`."""
    place: Path = find(source, weights_too=False)
    return Tokenizer.from_folder(place, context) if place.is_dir() else Tokenizer.from_merges(place, context)
