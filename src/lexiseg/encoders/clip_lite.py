"""Reads images with EfficientNet-Lite and CLIP's attention pool.

The trunk has seen ImageNet and ends at stride 32. Stage 5 brings its last map to the grid of stride 16, adds the map
that the trunk had there, and looks around. Beside it runs a linear path, which keeps what the trunk's classifier could
read: taught by masks alone, stage 5 forgets what no mask names.

Letters: B images, W channels that the pool reads, D embedding, h w grid of stride 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.clip_resnet import AttentionPool
from lexiseg.encoders.efficientnet_lite import HEAD, LITES, MEAN, STD, Trunk
from lexiseg.layers.pixels import CLIP_MEAN, CLIP_STD

__all__ = ["ClipLite", "ClipLiteShape"]

PATCH = 16  # pixels per cell
HEADS = 8
DILATIONS = (1, 3)  # of the two layers that look around


@dataclass(frozen=True)
class ClipLiteShape:
    """trunk: a name of `efficientnet_lite.LITES`.
    width: channels of stage 5.
    direct: channels of the linear path past it; 0 leaves it out.
    inner: channels of the pool's queries and keys.
    embed_dim: D.
    image_size: pixels, the side of squares that suit the tower.
    """

    trunk: str
    width: int
    direct: int
    inner: int
    embed_dim: int
    image_size: int


class ClipLite(nn.Module):
    """trunk(images) -> [B, W, h, w]; `attnpool` turns it into one vector, or into one for each cell.

    Images are normalised with CLIP's statistics, as for every CLIP; the trunk's own are reached from there.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: ClipLiteShape) -> None:
        super().__init__()
        self.shape = shape
        self.lite = Trunk(LITES[shape.trunk])
        self.head = nn.Conv2d(self.lite.channels[-1], HEAD, 1)
        self.stage5 = Stage5(self.lite.channels[2], shape.width)
        self.direct = nn.Conv2d(HEAD, shape.direct, 1) if shape.direct else None
        self.attnpool = AttentionPool(shape.width + shape.direct, HEADS, shape.embed_dim, None, shape.inner)
        # of the head's channels over photographs, so that all of them count alike
        self.register_buffer("mean", torch.zeros(HEAD))
        self.register_buffer("deviation", torch.ones(HEAD))

    @property
    def patch(self) -> int:
        """Pixels per cell of the grid."""
        return PATCH

    @property
    def image_size(self) -> int:
        return self.shape.image_size

    @property
    def width(self) -> int:
        """W."""
        return self.shape.width + self.shape.direct

    @property
    def embed_dim(self) -> int:
        return self.shape.embed_dim

    def trunk(self, images: Tensor) -> Tensor:
        """[B, W, h, w]; h = H / 16, rounded up. Sides are padded with grey to multiples of 32, and cells cut off."""
        skip, last = self.maps(images)
        grid = [-(-side // PATCH) for side in images.shape[-2:]]
        return self.read(skip, last)[..., : grid[0], : grid[1]]

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's maps of stride 16 and 32, the latter after the head [B, 1280, h / 2, w / 2]."""
        maps = self.lite(recolour(images).to(self.lite.stem.weight.dtype))
        return maps[2], functional.relu6(self.head(maps[3]))

    def read(self, skip: Tensor, last: Tensor) -> Tensor:
        """Both maps as [B, W, h, w], of whole multiples of 32 pixels."""
        last = (last - self.mean.to(last.dtype)[:, None, None]) / self.deviation.to(last.dtype)[:, None, None]
        found: Tensor = self.stage5(skip, last)
        if self.direct is None:
            return found
        return torch.cat([found, _stretched(self.direct(last), skip)], dim=1)

    def dense(self, images: Tensor, *, positions: bool = False) -> Tensor:
        """CLIP's own dense output [B, D, h, w]: self-attention of all cells through the pool. It has no positions."""
        return self.attnpool.dense(self.trunk(images), positions=positions)

    def forward(self, images: Tensor) -> Tensor:
        """One vector per image [B, D], not normalised."""
        pooled: Tensor = self.attnpool(self.trunk(images))
        return pooled


class Stage5(nn.Module):
    """Maps at strides 16 and 32 -> [B, width, h, w]: their sum, what is around each cell, and the whole picture."""

    def __init__(self, skip: int, width: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(HEAD, width, 1, bias=False)
        self.skip = nn.Conv2d(skip, width, 1)
        self.around = nn.ModuleList(Around(width, dilation) for dilation in DILATIONS)
        self.whole = nn.Linear(width, width)

    def forward(self, skip: Tensor, last: Tensor) -> Tensor:
        x = functional.relu(_stretched(self.last(last), skip) + self.skip(skip))
        for layer in self.around:
            x = layer(x)
        whole = functional.relu(self.whole(x.mean(dim=(2, 3))))
        return x + whole[..., None, None]


class Around(nn.Module):
    """A residual layer: depthwise 3x3, then 1x1 and ReLU."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width)
        self.pointwise = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.relu(self.pointwise(self.depthwise(x)))


def recolour(images: Tensor) -> Tensor:
    """Images normalised with CLIP's statistics, as the trunk's statistics would have normalised them."""
    pairs = zip(CLIP_MEAN, CLIP_STD, MEAN, STD, strict=True)
    numbers = [(std / own, (mean - centre) / own) for mean, std, centre, own in pairs]
    weight, bias = torch.tensor(numbers, dtype=images.dtype, device=images.device).T[:, :, None, None]
    recoloured: Tensor = images * weight + bias
    return recoloured


def _stretched(x: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(x, other.shape[-2:], mode="bilinear", align_corners=False)
