"""Opens CLIP's vision transformer where dense methods need it.

The parts are images -> tokens -> last block -> projection.

The modules are those of transformers' `CLIPVisionModel`; nothing is computed twice or differently. Letters: B images,
L patch tokens, W width of the tower, D embedding, h w grid, P patch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from lexiseg.encoders import attention
from lexiseg.encoders.positions import resize_positions
from lexiseg.errors import UnknownName

__all__ = ["ClipVit"]


class ClipVit(nn.Module):
    """model: a `CLIPVisionModel`. projection: `visual_projection`, W -> D without bias."""

    def __init__(self, model: Any, projection: nn.Linear) -> None:
        super().__init__()
        attention.use(model)
        self.model = model
        self.projection = projection

    @property
    def patch(self) -> int:
        """Pixels per cell of the grid."""
        return int(self.model.config.patch_size)

    @property
    def image_size(self) -> int:
        """The side in pixels of the squares the tower was trained on."""
        return int(self.model.config.image_size)

    @property
    def width(self) -> int:
        """W, the channels of a token."""
        return int(self.model.config.hidden_size)

    @property
    def embed_dim(self) -> int:
        return self.projection.out_features

    @property
    def last_block(self) -> Any:
        """The last `CLIPEncoderLayer`: call it with (tokens, None), or use its `layer_norm1`,
        `self_attn.{q_proj, k_proj, v_proj, out_proj}`, `layer_norm2` and `mlp` one by one."""
        return self.model.encoder.layers[-1]

    def use(self, *, activation: str | None = None, norm_eps: float | None = None) -> None:
        """Runs this tower with another activation ("quick_gelu", "gelu", ...) or LayerNorm epsilon than its weights'.

        `model.config` keeps what the weights were trained with. Raises `UnknownName` for an unknown activation.
        """
        if activation is not None and activation not in ACT2FN:
            raise UnknownName("activation", activation, ACT2FN)
        for module in self.model.modules():
            if activation is not None and hasattr(module, "activation_fn"):
                module.activation_fn = ACT2FN[activation]
            if norm_eps is not None and isinstance(module, nn.LayerNorm):
                module.eps = norm_eps

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The tokens that enter the first block [B, 1 + L, W], the class token first, and the grid (h, w).

        Sides that are not a multiple of P are padded with zeros (the mean colour) at the right and at the bottom.
        """
        embeddings = self.model.embeddings
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        cells = embeddings.patch_embedding(images.to(embeddings.patch_embedding.weight.dtype))  # [B, W, h, w]
        grid = (cells.shape[-2], cells.shape[-1])
        first = embeddings.class_embedding.expand(len(cells), 1, -1)
        tokens = torch.cat([first, cells.flatten(2).mT], dim=1)  # [B, 1 + L, W]
        return self.model.pre_layrnorm(tokens + resize_positions(embeddings.position_embedding.weight, grid)), grid

    def tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The tokens that enter the last block [B, 1 + L, W], the class token first, and the grid (h, w)."""
        tokens, grid = self.embed(images)
        for block in self.model.encoder.layers[:-1]:
            tokens = block(tokens, None)
        return tokens, grid

    def values(self, tokens: Tensor, *, residual: bool = True, ffn: bool = True) -> Tensor:
        """The patches after the last block, each by its own value: MaskCLIP's read-out (Eq. 3-4; maskclip.md §2.3).

        tokens: those that enter the last block [B, 1 + L, W]. Returns [B, L, W], for `project`.
        residual: add what entered the block. ffn: apply the rest of it, too.
        """
        block, cells = self.last_block, tokens[:, 1:]
        outer: Tensor = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(cells)))  # F(v_i)
        if residual:
            outer = cells + outer
        if ffn:
            outer = outer + block.mlp(block.layer_norm2(outer))
        return outer

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block [..., W] as image vectors [..., D]: `ln_post`, then the projection."""
        projected: Tensor = self.projection(self.model.post_layernorm(tokens))
        return projected

    def dense(self, images: Tensor) -> Tensor:
        """CLIP's own dense output [B, D, h, w]: every patch token after the last block as it is (maskclip.md §2.5)."""
        tokens, grid = self.tokens(images)
        vectors = self.project(self.last_block(tokens, None)[:, 1:])  # [B, L, D]
        return vectors.mT.reshape(len(vectors), -1, *grid)

    def forward(self, images: Tensor) -> Tensor:
        """One vector per image [B, D], not normalised: the class token's."""
        tokens, _ = self.tokens(images)
        return self.project(self.last_block(tokens, None)[:, 0])
