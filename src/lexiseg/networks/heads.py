"""Turns a backbone's maps into one vector per place.

There are the heads of DeepLab, PSPNet and FCN, and two pyramids.

Each takes the maps of a backbone, finest first, and returns [B, D, h, w]; the classifier, here made of text, comes
after it. `level` is the map whose resolution the result has; `reads` tells which maps matter: "all", the "first and
last" or the "last". BatchNorm stands everywhere as in the papers; in a run of many processes accelerate or torch turn
it into SyncBatchNorm (`convert_sync_batchnorm`). Letters: B images, D dimension of the text vectors, h w grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.errors import SettingError

__all__ = [
    "DeepLabV2Head",
    "DeepLabV3PlusHead",
    "FcnHead",
    "FpnHead",
    "Head",
    "PspHead",
    "PyramidHead",
    "convolution",
    "upsample",
]


def convolution(
    channels: int, width: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution without bias that keeps the size (up to the stride), BatchNorm and ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def separable(channels: int, width: int, *, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then a 1x1 one that mixes them; BatchNorm and ReLU after both."""
    return nn.Sequential(
        convolution(channels, channels, 3, dilation=dilation, groups=channels), convolution(channels, width)
    )


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, align_corners False, as everywhere in the papers' code."""
    height, width = size
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


class DeepLabV2Head(nn.Module):
    """Four dilated 3x3 convolutions of the last map side by side, summed after their ReLUs (maskclip_plus.md §3.2).

    The result is therefore nowhere negative.
    """

    level = -1
    reads = "last"

    def __init__(self, channels: Sequence[int], dimension: int, *, dilations: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(convolution(channels[-1], dimension, 3, dilation=rate) for rate in dilations)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total: Tensor = sum(branch(maps[-1]) for branch in self.branches)
        return total


class DeepLabV3PlusHead(nn.Module):
    """Separable atrous pyramid on the last map, refined at the resolution of the first (maskclip_plus.md §3.2)."""

    level = 0
    reads = "first and last"

    def __init__(
        self, channels: Sequence[int], dimension: int, *, dilations: Sequence[int] = (12, 24, 36), low_level: int = 48
    ) -> None:
        super().__init__()
        if len(channels) < 2:
            raise SettingError(
                "deeplabv3plus refines with an early map, and this backbone gives one map alone; take deeplabv2 or fcn"
            )
        self.pooled = convolution(channels[-1], dimension)
        self.pointwise = convolution(channels[-1], dimension)
        self.atrous = nn.ModuleList(separable(channels[-1], dimension, dilation=rate) for rate in dilations)
        self.bottleneck = convolution((len(dilations) + 2) * dimension, dimension, 3)
        self.low_level = convolution(channels[0], low_level)
        self.refine = nn.Sequential(separable(dimension + low_level, dimension), separable(dimension, dimension))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        first, last = maps[0], maps[-1]
        context = _pool(last, 1, self.pooled)
        branches = [context, self.pointwise(last), *(branch(last) for branch in self.atrous)]
        x = self.bottleneck(torch.cat(branches, dim=1))  # [B, D, h, w] of the last map
        x = torch.cat([upsample(x, first.shape[-2:]), self.low_level(first)], dim=1)
        refined: Tensor = self.refine(x)
        return refined


class PspHead(nn.Module):
    """The last map beside its averages over 1, 4, 9 and 36 regions (Zhao et al., PSPNet, CVPR 2017)."""

    level = -1
    reads = "last"

    def __init__(self, channels: Sequence[int], dimension: int, *, pools: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.pools = tuple(pools)
        width = channels[-1] // len(pools)  # so that all regions together weigh as much as the map
        self.regions = nn.ModuleList(convolution(channels[-1], width) for _ in pools)
        self.bottleneck = convolution(channels[-1] + len(pools) * width, dimension, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        last = maps[-1]
        regions = [_pool(last, size, layer) for size, layer in zip(self.pools, self.regions, strict=True)]
        x: Tensor = self.bottleneck(torch.cat([last, *regions], dim=1))
        return x


class FcnHead(nn.Module):
    """Two 3x3 convolutions of the last map, the inner one a quarter as wide as it."""

    level = -1
    reads = "last"

    def __init__(self, channels: Sequence[int], dimension: int) -> None:
        super().__init__()
        inner = channels[-1] // 4
        self.layers = nn.Sequential(convolution(channels[-1], inner, 3), convolution(inner, dimension, 3))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x: Tensor = self.layers(maps[-1])
        return x


class PyramidHead(nn.Module):
    """All maps at the resolution of the first, summed, then one 3x3 convolution and a linear map to D.

    For backbones that cannot be dilated. The result may be negative: it ends without ReLU.
    """

    level = 0
    reads = "all"

    def __init__(self, channels: Sequence[int], dimension: int, *, width: int = 128) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1, bias=False) for count in channels)
        self.norm = nn.BatchNorm2d(width)
        self.mix = convolution(width, width, 3)
        self.project = nn.Conv2d(width, dimension, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[-2:]
        x = self.lateral[0](maps[0])  # [B, width, h, w] of the first map
        for layer, coarse in zip(self.lateral[1:], maps[1:], strict=True):
            x = x + upsample(layer(coarse), size)
        features: Tensor = self.project(self.mix(functional.relu(self.norm(x))))
        return features


class FpnHead(nn.Module):
    """The feature pyramid of MaskFormer's pixel decoder, then a linear map to D (zsseg_fcn.md §7.1).

    From the coarsest map to the finest: enlarged by repetition, added to the next map, mixed by a 3x3 convolution.
    GroupNorm of 32 groups throughout, so it trains on any batch. The result may be negative.
    """

    level = 0
    reads = "all"

    def __init__(self, channels: Sequence[int], dimension: int, *, width: int = 256) -> None:
        super().__init__()
        self.stem = _mixed(channels[-1], width)
        self.lateral = nn.ModuleList(_normed(count, width, 1) for count in channels[:-1])
        self.mix = nn.ModuleList(_mixed(width, width) for _ in channels[:-1])
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.project = nn.Conv2d(width, dimension, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = self.stem(maps[-1])  # [B, width, h, w] of the last map
        for finer, lateral, mix in zip(maps[-2::-1], self.lateral[::-1], self.mix[::-1], strict=True):
            x = mix(lateral(finer) + functional.interpolate(x, size=finer.shape[-2:], mode="nearest"))
        features: Tensor = self.project(self.last(x))
        return features


GROUPS = 32  # of channels that are normalised together


def _normed(channels: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False), nn.GroupNorm(GROUPS, width)
    )


def _mixed(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(*_normed(channels, width, 3), nn.ReLU(inplace=True))


Head = DeepLabV2Head | DeepLabV3PlusHead | PspHead | FcnHead | FpnHead | PyramidHead


def _pool(x: Tensor, size: int, layer: nn.Module) -> Tensor:
    """Averages over size x size regions, through `layer`, at the resolution of `x`."""
    if size == 1 and len(x) == 1 and layer.training and not _synchronised(layer):
        raise SettingError(
            "this student averages whole images and normalises over the batch, so one image at a time cannot train it; "
            "give batches of two or more, or take deeplabv2"
        )
    return upsample(layer(functional.adaptive_avg_pool2d(x, size)), x.shape[-2:])


def _synchronised(layer: nn.Module) -> bool:
    return any(isinstance(module, nn.SyncBatchNorm) for module in layer.modules())
