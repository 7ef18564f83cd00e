"""Holds a picture as regions with one vector each.

Methods that group patches have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from lexiseg.proposals._proposals import Proposals
from lexiseg.segmenter import Embedding, MaskScores

__all__ = ["RegionEmbedding", "RegionMaps"]

RegionMaps = Literal["soft", "hard"]


@dataclass(frozen=True, eq=False)
class RegionEmbedding(Embedding):
    """soft: how much each cell belongs to each region, over the regions 1 in sum [B, N, h, w].

    features: of each region, not of unit length [B, N, D].
    image: of the whole picture, not of unit length [B, D].
    patch: pixels of the input per cell; cells at the right and at the bottom may reach beyond it.
    maps: what decides the region of a pixel: "soft" interpolates the shares between cells, "hard" the one region of
        each cell.

    There are no grid fields, so each window of a picture is classified by itself.
    """

    per_image: ClassVar[tuple[str, ...]] = ("soft", "features", "image")

    soft: Tensor
    features: Tensor
    image: Tensor
    patch: int
    maps: RegionMaps = "soft"

    @property
    def covers(self) -> tuple[int, int]:
        """Pixels (height, width) that the cells span."""
        return self.soft.shape[-2] * self.patch, self.soft.shape[-1] * self.patch

    def hard(self) -> Tensor:
        """One-hot: the region of each cell [B, N, h, w], in the dtype of `soft`."""
        return torch.zeros_like(self.soft).scatter_(1, self.soft.argmax(dim=1, keepdim=True), 1)

    def labels(self) -> Tensor:
        """The region of each pixel that the cells span, int64 [B, *covers]."""
        shares = self.soft if self.maps == "soft" else self.hard()
        whole: Tensor = functional.interpolate(shares.float(), self.covers, mode="bilinear", align_corners=False)
        return whole.argmax(dim=1)

    @property
    def proposals(self) -> Proposals:
        """The regions as masks, at every pixel; those without any pixel are not valid."""
        return Proposals.of_labels(self.labels(), self.covers)

    def masks(self, scores: Tensor) -> MaskScores:
        """What `classify` returns of scores of each region [B, N, C + 1], whose last channel is the background."""
        labels = self.labels()
        shape = (len(labels), self.soft.shape[1], *self.covers)
        masks = torch.zeros(shape, device=labels.device).scatter_(1, labels[:, None], 1.0)
        return MaskScores(masks, scores, background=True, weights="linear", covers=self.covers)
