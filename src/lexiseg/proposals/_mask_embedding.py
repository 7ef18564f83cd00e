"""Holds a picture as masks with one vector each.

Methods that compare masks with words have it.

Letters: B images, N masks, C classes, D embedding, h w grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lexiseg.proposals._proposals import CERTAIN, Proposals
from lexiseg.segmenter import Embedding, MaskScores, TextClassifier

__all__ = ["MaskEmbedding"]


@dataclass(frozen=True, eq=False)
class MaskEmbedding(Embedding):
    """masks: logits [B, N, h, w]. valid: which of them there are, bool [B, N].

    features: of what each mask shows, not of unit length [B, N, D].
    covers: pixels (height, width) of the input that the grid spans; None is exactly the input.

    There are no grid fields, so each window of a picture is classified by itself.
    """

    per_image: ClassVar[tuple[str, ...]] = ("masks", "valid", "features")

    masks: Tensor
    valid: Tensor
    features: Tensor
    covers: tuple[int, int] | None = None

    @property
    def proposals(self) -> Proposals:
        return Proposals(self.masks, self.valid, self.covers)

    def named(self, classifier: TextClassifier) -> MaskScores:
        """Each mask shares its pixels out among the classes, by the softmax of its scaled cosines with the words."""
        logits = classifier.logits(self.features.mT[..., None])[..., 0].mT  # [B, N, C]
        nowhere = torch.tensor(-CERTAIN, dtype=self.masks.dtype, device=self.masks.device)
        masks = torch.where(self.valid[..., None, None], self.masks, nowhere)
        scores = logits.softmax(dim=-1) * self.valid[..., None]
        return MaskScores(masks, scores, classifier.background, covers=self.covers)
