"""Builds a trunk for two CPU cores.

It has plain 3x3 convolutions where they are cheap, at strides 8, 16 and 32.

Letters: B images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from lexiseg.networks.heads import convolution

__all__ = ["MINIS", "MiniTrunk", "MiniTrunkShape"]


@dataclass(frozen=True)
class MiniTrunkShape:
    """stem: channels at strides 2 and 4. widths, blocks: channels and residual blocks at strides 8, 16 and 32."""

    stem: tuple[int, int]
    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]


MINIS: Mapping[str, MiniTrunkShape] = {
    "mini": MiniTrunkShape((24, 48), (80, 160, 256), (1, 2, 1)),
    "tiny": MiniTrunkShape((8, 8), (8, 16, 16), (1, 1, 1)),  # for tests
}


class MiniTrunk(nn.Module):
    """images [B, 3, H, W] -> the maps at strides 8, 16 and 32; sides round up."""

    strides = (8, 16, 32)  # pixels per cell of each map

    def __init__(self, shape: MiniTrunkShape) -> None:
        super().__init__()
        self.channels = shape.widths
        first, second = shape.stem
        self.stem = nn.Sequential(convolution(3, first, 3, stride=2), convolution(first, second, 3, stride=2))
        widths = (second, *shape.widths)
        self.stages = nn.ModuleList(
            _stage(widths[place], widths[place + 1], blocks) for place, blocks in enumerate(shape.blocks)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width, 3)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.second(self.first(x))))


def _stage(channels: int, width: int, blocks: int) -> nn.Sequential:
    layers: Sequence[nn.Module] = [Residual(width) for _ in range(blocks)]
    return nn.Sequential(convolution(channels, width, 3, stride=2), *layers)
