"""Builds CLIP's ResNet with its attention pool, which transformers lacks.

Its tensors are named as OpenAI's (docs/papers/clip.md §1.3).

Letters: B images, L cells of the grid, w width of the stem's last convolution, D embedding, h w grid of stride 32.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.positions import resize_positions

__all__ = ["AttentionPool", "ClipResNet", "ResNetShape"]

STRIDE = 32  # pixels per cell after the stem (4) and three strided stages (2 each)
HEAD_DIM = 64  # channels of an attention head in every CLIP
EXPANSION = 4  # a bottleneck's output has this many times its inner channels


@dataclass(frozen=True)
class ResNetShape:
    """layers: bottlenecks in each of the four stages. width: w. image_size: pixels, a multiple of 32."""

    layers: tuple[int, int, int, int]
    width: int
    image_size: int
    embed_dim: int

    @property
    def channels(self) -> int:
        """Channels of the last stage, 32·w."""
        return self.width * 8 * EXPANSION

    @property
    def heads(self) -> int:
        return max(1, self.channels // HEAD_DIM)


class ClipResNet(nn.Module):
    """trunk(images) -> [B, 32w, h, w]; `attnpool` turns it into one vector, or into one for each cell."""

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        inner = [width, width * 2, width * 4, width * 8]
        outer = [width] + [channels * EXPANSION for channels in inner]
        self.layer1 = _stage(outer[0], inner[0], shape.layers[0], stride=1)
        self.layer2 = _stage(outer[1], inner[1], shape.layers[1], stride=2)
        self.layer3 = _stage(outer[2], inner[2], shape.layers[2], stride=2)
        self.layer4 = _stage(outer[3], inner[3], shape.layers[3], stride=2)
        self.attnpool = AttentionPool(shape.channels, shape.heads, shape.embed_dim, shape.image_size // STRIDE)

    @property
    def patch(self) -> int:
        """Pixels per cell of the grid."""
        return STRIDE

    @property
    def image_size(self) -> int:
        """The side in pixels of the squares the tower was trained on."""
        return self.shape.image_size

    @property
    def width(self) -> int:
        """Channels of `trunk`, 32·w."""
        return self.shape.channels

    @property
    def embed_dim(self) -> int:
        return self.shape.embed_dim

    def trunk(self, images: Tensor) -> Tensor:
        """The map of the last stage after its ReLU [B, 32w, h, w]; h = H // 32 where 32 divides H.

        Images smaller than one cell are padded with zeros (the mean colour) at the right and at the bottom.
        """
        return self.maps(images)[-1]

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps of all four stages, as `trunk` gives the last one; the first is [B, 4w, H/4, W/4]."""
        height, width = images.shape[-2:]
        x = functional.pad(images, (0, max(0, STRIDE - width), 0, max(0, STRIDE - height))).to(self.conv1.weight.dtype)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        x = functional.relu(self.bn3(self.conv3(x)))
        x = functional.avg_pool2d(x, 2)  # [B, w, H/4, W/4]
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def dense(self, images: Tensor, *, positions: bool = False) -> Tensor:
        """CLIP's own dense output [B, D, h, w]: self-attention of all cells through the pool (maskclip.md §2.5).

        The authors of MaskCLIP leave the pool's position embedding out here; `positions` adds it.
        """
        return self.attnpool.dense(self.trunk(images), positions=positions)

    def forward(self, images: Tensor) -> Tensor:
        """One vector per image [B, D], not normalised."""
        pooled: Tensor = self.attnpool(self.trunk(images))
        return pooled


class AttentionPool(nn.Module):
    """Multi-head attention whose query is the mean of all cells; `positional_embedding` is [1 + G², 32w].

    grid: G; None for a pool without positions. inner: channels of queries and keys; None is as many as the map has.
    """

    def __init__(self, width: int, heads: int, embed_dim: int, grid: int | None, inner: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding: nn.Parameter | None = None
        if grid is not None:
            self.positional_embedding = nn.Parameter(torch.randn(1 + grid * grid, width) / width**0.5)
        self.q_proj = nn.Linear(width, inner or width)
        self.k_proj = nn.Linear(width, inner or width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def tokens(self, features: Tensor, *, positions: bool = True) -> Tensor:
        """A map [B, 32w, h, w] as tokens [B, 1 + L, 32w], their mean first, with the position embedding added."""
        cells = features.flatten(2).mT  # [B, L, 32w]
        tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)
        if not positions or self.positional_embedding is None:
            return tokens
        return tokens + resize_positions(self.positional_embedding, (features.shape[-2], features.shape[-1]))

    def attend(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Each of the queries [B, N, 32w] attends to the tokens [B, 1 + L, 32w]: [B, N, D]."""
        query, key, value = (
            projected.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, tokens, 32w / heads]
            for projected in (self.q_proj(queries), self.k_proj(tokens), self.v_proj(tokens))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        attended: Tensor = self.c_proj(mixed.transpose(1, 2).flatten(2))
        return attended

    def cells(self, features: Tensor) -> Tensor:
        """A map [B, 32w, h, w] with each cell attended to by itself alone: [B, D, h, w] (MaskCLIP, Eq. 3-4)."""
        vectors: Tensor = self.c_proj(self.v_proj(features.flatten(2).mT))  # [B, L, D]
        return vectors.mT.reshape(len(vectors), -1, *features.shape[-2:])

    def dense(self, features: Tensor, *, positions: bool) -> Tensor:
        """A map [B, 32w, h, w] with each cell attending to all: [B, D, h, w]."""
        tokens = self.tokens(features, positions=positions)
        vectors = self.attend(tokens, tokens)[:, 1:]  # [B, L, D]
        return vectors.mT.reshape(len(vectors), -1, *features.shape[-2:])

    def forward(self, features: Tensor) -> Tensor:
        """A map [B, 32w, h, w] as one vector per image [B, D]."""
        tokens = self.tokens(features)
        return self.attend(tokens[:, :1], tokens)[:, 0]


class Bottleneck(nn.Module):
    """Convolutions of stride 1; where the stage shrinks the map, an average pool does it on both paths."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, inner * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner * EXPANSION)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or channels != inner * EXPANSION:
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["-1"] = nn.AvgPool2d(stride)  # OpenAI's names: the pool has no parameters and no number of its own
            layers["0"] = nn.Conv2d(channels, inner * EXPANSION, 1, bias=False)
            layers["1"] = nn.BatchNorm2d(inner * EXPANSION)
            self.downsample = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        if self.stride > 1:
            x = functional.avg_pool2d(x, self.stride)
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


def _stage(channels: int, inner: int, blocks: int, *, stride: int) -> nn.Sequential:
    rest = [Bottleneck(inner * EXPANSION, inner, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(channels, inner, stride), *rest)
