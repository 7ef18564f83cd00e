"""Defines proposals, the masks without words that several methods start from.

ZSSeg's mask proposals, S-Seg's pseudo-masks, SegCLIP's superpixels and the regions of any grouping method are all
`Proposals`, so the oracle scores them alike. A file of this shelf offers

    Config            a frozen dataclass, every field with a default; `--set` changes it
    load(config)      the `Proposer`

and a method whose embedding has masks gives them as `embedding.proposals` (`Traits.regions`).

Letters: B images, N masks, h w grid, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CERTAIN", "Proposals", "Proposer"]

CERTAIN = 1e4  # the logit of a mask that is certain; half precision holds it


@dataclass(frozen=True, eq=False)
class Proposals:
    """Masks without words.

    masks: logits [B, N, h, w] of any float type; they may overlap, and need not cover the picture.
    valid: which masks count, bool [B, N]; pictures of a batch may have fewer than N.
    covers: pixels (height, width) of the input that the grid spans; None is exactly the input.
    """

    masks: Tensor
    valid: Tensor
    covers: tuple[int, int] | None = None

    @classmethod
    def of_labels(cls, labels: Tensor, covers: tuple[int, int] | None = None) -> Proposals:
        """The parts of class-free label maps, int [B, h, w]: a mask for each number from 0 to the largest.

        A negative number belongs to no part. Masks are half precise, since superpixels are many.
        """
        count = max(1, int(labels.max()) + 1)
        numbers = torch.arange(count, device=labels.device).view(1, -1, 1, 1)
        inside = labels[:, None] == numbers  # [B, N, h, w]
        certain = torch.tensor(CERTAIN, dtype=torch.float16, device=labels.device)
        return cls(torch.where(inside, certain, -certain), inside.flatten(2).any(dim=2), covers)

    def of_image(self, place: int, size: tuple[int, int]) -> Tensor:
        """The valid masks of one picture as probabilities, float32 [N, H, W] at `size`, the input's own.

        The logits are interpolated (bilinear), then passed through a sigmoid.
        """
        masks = self.masks[place][self.valid[place]].float()
        if not len(masks):
            return masks.new_zeros(0, *size)
        covered = self.covers or size
        full = functional.interpolate(masks[None], covered, mode="bilinear", align_corners=False)[0]
        return full[:, : size[0], : size[1]].sigmoid()


class Proposer(Protocol):
    """Makes masks of pictures, without words."""

    def propose(self, images: Tensor) -> Proposals:
        """RGB uint8 [B, 3, H, W]; the pictures of a batch do not mix."""
        ...
