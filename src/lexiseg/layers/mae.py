"""Hides most patches of a picture and paints them again.

These are the masking and the decoder of masked autoencoders.

He, Chen, Xie, Li, Dollár and Girshick, "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022), as SegCLIP uses
it (docs/papers/segclip.md §3.5). Letters: B images, G centres, L patches, K kept ones, W width, P patch, h w grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.init import normal_

from lexiseg.errors import SettingError
from lexiseg.layers.grouping import SPREAD, QuickGelu, draw_linear

__all__ = ["Kept", "MaeDecoder", "RegionReconstruction", "hide", "patchify", "positions"]


@dataclass(frozen=True, eq=False)
class Kept:
    """Which patches of a picture can be seen. order: all patches, kept ones first [B, L]. count: K."""

    order: Tensor
    count: int

    def of(self, tokens: Tensor) -> Tensor:
        """The kept ones, in their drawn order: [B, L, W] -> [B, K, W]."""
        kept = self.order[:, : self.count, None]
        return tokens.gather(1, kept.expand(-1, -1, tokens.shape[2]))

    def back(self, tokens: Tensor) -> Tensor:
        """Puts tokens of all patches, kept ones first [B, L, W], where they belong in the picture."""
        return tokens.gather(1, self.order.argsort(dim=1)[..., None].expand_as(tokens))

    def hidden(self) -> Tensor:
        """Which patches cannot be seen, bool [B, L]."""
        first = torch.arange(self.order.shape[1], device=self.order.device) >= self.count
        return first.expand_as(self.order).gather(1, self.order.argsort(dim=1))


def hide(noise: Tensor, ratio: float) -> Kept:
    """Keeps the patches with the smallest noise [B, L], a share of 1 - `ratio` of them and the class token.

    The class token is counted, and always kept: of 196 patches 48 are left, not 49, at a ratio of 0.75.
    """
    length = noise.shape[1]
    count = int((length + 1) * (1 - ratio)) - 1
    return Kept(noise.argsort(dim=1), min(max(count, 1), length))


def patchify(images: Tensor, patch: int) -> Tensor:
    """Pictures [B, 3, H, W] as rows of pixels of each patch, in the order (row, column, channel) [B, L, 3 P P].

    Sides that are not a multiple of P are padded with zeros at the right and the bottom.
    """
    height, width = images.shape[-2:]
    images = functional.pad(images, (0, -width % patch, 0, -height % patch))
    cells = functional.pixel_unshuffle(images, patch)  # [B, 3 P P, h, w], channel first
    pixels: Tensor = cells.flatten(2).mT.unflatten(2, (3, -1)).mT.flatten(2)  # type: ignore[no-untyped-call]
    return pixels


def positions(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed sines and cosines of a cell's column, then of its row, float32 [h w, W]; W is a multiple of 4."""
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [place.flatten()[:, None] * rates for place in (columns, rows)]  # [h w, W / 4] each
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()


class MaeDecoder(nn.Module):
    """A small transformer that sees the kept tokens, and paints every patch.

    width_in: of the tokens. width: inside. layers: blocks. pixels: numbers of a patch.
    Raises `SettingError` for a width that the heads, or 4, do not divide.
    """

    def __init__(self, width_in: int, width: int, *, heads: int, layers: int, pixels: int) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise SettingError(
                f"decoder_width is {width} and decoder_heads {heads}; give a width that both the heads and 4 divide"
            )
        self.enter = nn.Linear(width_in, width)
        self.hidden = nn.Parameter(torch.empty(width))  # stands for a patch that cannot be seen
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.leave = nn.Linear(width, pixels)
        normal_(self.hidden, std=SPREAD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                draw_linear(module)

    def forward(self, first: Tensor, tokens: Tensor, kept: Kept, grid: tuple[int, int]) -> Tensor:
        """first: what stands in for the class token [B, 1, W]; tokens: kept ones [B, K, W]. Pixels [B, L, 3 P P]."""
        seen = self.enter(tokens)
        blank = self.hidden.to(seen.dtype).expand(len(seen), kept.order.shape[1] - seen.shape[1], -1)
        patches = kept.back(torch.cat([seen, blank], dim=1))
        patches = patches + positions(grid, patches.shape[2]).to(patches)
        x = torch.cat([self.enter(first), patches], dim=1)  # the first has no position
        for block in self.blocks:
            x = block(x)
        painted: Tensor = self.leave(self.norm(x[:, 1:]))
        return painted


class RegionReconstruction(nn.Module):
    """Gives the regions of the kept patches back to these patches, and paints all of them (paper, section 2.3).

    blocks: layers that the patches pass in between, which take (tokens, None).
    activation: after the layer that gives regions back; the paper has "gelu".
    """

    def __init__(
        self,
        centres: int,
        blocks: Sequence[nn.Module],
        decoder: MaeDecoder,
        *,
        activation: Literal["quick_gelu", "gelu"] = "quick_gelu",
    ) -> None:
        super().__init__()
        self.spread = nn.Linear(centres, centres)
        self.activation = QuickGelu() if activation == "quick_gelu" else nn.GELU()
        self.blocks = nn.ModuleList(blocks)
        self.decoder = decoder
        for module in (self.spread, *self.blocks.modules()):
            if isinstance(module, nn.Linear):
                draw_linear(module)

    def forward(self, regions: Tensor, hard: Tensor, kept: Kept, grid: tuple[int, int]) -> Tensor:
        """regions [B, G, W]; hard: the assignment of the kept patches to them [B, G, K]. Pixels [B, L, 3 P P]."""
        spread = self.spread(hard.mT.to(regions.dtype))  # [B, K, G]
        x = self.activation(spread @ regions)  # Eq. 4 [B, K, W]
        for block in self.blocks:
            x = block(x, None)
        painted: Tensor = self.decoder(x.mean(dim=1, keepdim=True), x, kept, grid)
        return painted


class _Block(nn.Module):
    """A plain transformer layer: norms first, exact GELU, no dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B, heads, L, W / heads] each
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result
