"""Gives every patch and every piece of a word a vector.

The vectors of both towers are in one space.

CLIP reads each tower at one token. Methods that pool tokens themselves (LoDA) need all of them, and need not know
which towers they come from. Letters: B images, N sentences, T text tokens, L patch tokens, D embedding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders import attention
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.sentences import all_states
from lexiseg.encoders.tokenizer import pad
from lexiseg.errors import WeightsError

__all__ = ["ClipTokens", "TextTokens", "TokenTowers"]


class TextTokens(NamedTuple):
    """vectors [N, T, D], not of unit length. mask [N, T]: true for the sentence and its marks, false for padding.

    summary [N]: the place of the token that stands for the whole sentence (CLIP's end token, BERT's [CLS]).
    """

    vectors: Tensor
    mask: Tensor
    summary: Tensor


class TokenTowers(Protocol):
    """Also a `torch.nn.Module`. temperature: a scalar parameter; cosines over it are logits."""

    temperature: nn.Parameter

    @property
    def patch(self) -> int:
        """Pixels per cell of the grid."""
        ...

    def image_tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Normalised images [B, 3, H, W] of any size as tokens [B, 1 + L, D], the class token first, and their grid.

        Sides that are not a multiple of the patch are padded with zeros (the mean colour) at the right and the bottom.
        """
        ...

    def text_tokens(
        self, sentences: Sequence[str], *, length: int, padded: bool = False, prompts: Prompts | None = None
    ) -> TextTokens:
        """Tokens of sentences, of which the first `length` count; `padded`: T is `length`, not that of the longest.

        prompts: whose context goes with the sentences. Raises `SettingError` where the tower takes none.
        """
        ...

    def text_digest(self) -> str:
        """Hash of all that decides a sentence's tokens: the text tower's weights and settings, and the tokenizer."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None: ...


class ClipTokens(nn.Module):
    """A CLIP with a ViT. Its own `log_scale` stands still; `temperature` is trained in its place, and saved there."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        if not isinstance(clip.vision, ClipVit):
            raise WeightsError("this CLIP has a ResNet, which pools its cells in one layer; give one with a ViT")
        attention.use(clip.text_model)
        self.clip = clip
        clip.log_scale.requires_grad_(False)
        self.temperature = nn.Parameter(torch.tensor(1 / clip.logit_scale))

    @property
    def patch(self) -> int:
        return self.clip.patch

    def image_tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        vision: Any = self.clip.vision
        tokens, grid = vision.tokens(images)
        return vision.project(vision.last_block(tokens, None)), grid

    def text_tokens(
        self, sentences: Sequence[str], *, length: int, padded: bool = False, prompts: Prompts | None = None
    ) -> TextTokens:
        clip, device = self.clip, self.clip.text_projection.weight.device
        length = min(length, clip.tokenizer.context)
        whole = clip.tokenizer(sentences) if prompts is None else clip.rows(sentences, prompts)
        rows = [row if len(row) <= length else [*row[: length - 1], row[-1]] for row in whole]
        ids = pad(rows).to(device)
        if padded:
            ids = functional.pad(ids, (0, length - ids.shape[1]))
        places = torch.arange(ids.shape[1], device=device)
        sizes = torch.tensor([len(row) for row in rows], device=device)
        # attention is causal, so that padding changes nothing before it
        if prompts is None or prompts.context is None:
            states = clip.text_model(input_ids=ids, position_ids=places[None]).last_hidden_state  # [N, T, W]
        else:
            states = all_states(clip.text_model, ids.tolist(), prompts.context)
        return TextTokens(clip.text_projection(states), places < sizes[:, None], sizes - 1)

    def text_digest(self) -> str:
        return self.clip.text_digest()

    @torch.no_grad()
    def save(self, folder: str | os.PathLike[str]) -> None:
        """A CLIP that transformers reads too."""
        self.clip.log_scale.fill_(-math.log(self.temperature.item()))
        self.clip.save(folder)
