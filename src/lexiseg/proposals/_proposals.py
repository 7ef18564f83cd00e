"""Defines proposals, the masks without words that several methods start from.

ZSSeg's mask proposals, S-Seg's pseudo-masks, SegCLIP's superpixels and the regions of any grouping method are all
`Proposals`, so the oracle scores them alike. A file of this shelf offers

    Config            a frozen dataclass, every field with a default; `--set` changes it
    load(config)      the `Proposer`

and a method whose embedding has masks gives them as `embedding.proposals` (`Traits.regions`). A method that takes masks
from outside has `embed_image(images, proposals=None)` (`Traits.accepts_masks`).

Letters: B images, N masks, h w grid, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["CERTAIN", "SURE", "Proposals", "Proposer"]

CERTAIN = 1e4  # the logit of a part that is certain; half precision holds it
SURE = 10.0  # the largest logit of a mask that need not cover the picture: its weight fades where it is interpolated


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

    @classmethod
    def of_weights(cls, weights: Tensor) -> Proposals:
        """Masks [B, N, h, w] of 0 to 1, or booleans; those that are 0 everywhere are not valid.

        Logits are at most SURE, so that between a mask's last cell and the next one its weight fades, rather than
        being 0 there for every mask.
        """
        limit = 1 / (1 + math.exp(SURE))
        logits = torch.logit(weights.float().clamp(limit, 1 - limit))
        return cls(logits.clamp(-SURE, SURE).half(), (weights > 0).flatten(2).any(dim=2))

    @classmethod
    def batch(cls, each: Sequence[Proposals]) -> Proposals:
        """Proposals of several batches as one of all their pictures, padded to the most masks.

        Their grids must have one size and cover the same.
        """
        most = max(one.masks.shape[1] for one in each)
        masks = [functional.pad(one.masks, (0, 0, 0, 0, 0, most - one.masks.shape[1]), value=-SURE) for one in each]
        valid = [functional.pad(one.valid, (0, most - one.valid.shape[1])) for one in each]
        return cls(torch.cat(masks), torch.cat(valid), each[0].covers)

    def to(self, device: torch.device | str) -> Proposals:
        return replace(self, masks=self.masks.to(device), valid=self.valid.to(device))

    def at(self, size: tuple[int, int]) -> Tensor:
        """All masks as probabilities, float32 [B, N, H, W] at `size`, the input's own; 0 for those that are not valid.

        The logits are interpolated (bilinear), then passed through a sigmoid.
        """
        covered = self.covers or size
        masks = self.masks.float()
        if masks.shape[-2:] != covered:
            masks = functional.interpolate(masks, covered, mode="bilinear", align_corners=False)
        return masks[..., : size[0], : size[1]].sigmoid() * self.valid[..., None, None]

    def of_image(self, place: int, size: tuple[int, int]) -> Tensor:
        """The valid masks of one picture as probabilities, float32 [N, H, W] at `size`, as `at` has them."""
        valid = self.valid[place]
        chosen = replace(self, masks=self.masks[place][valid][None], valid=valid[valid][None])
        return chosen.at(size)[0] if valid.any() else self.masks.new_zeros((0, *size), dtype=torch.float32)


class Proposer(Protocol):
    """Makes masks of pictures, without words."""

    def propose(self, images: Tensor) -> Proposals:
        """RGB uint8 [B, 3, H, W]; the pictures of a batch do not mix."""
        ...
