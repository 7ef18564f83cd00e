"""Builds the dilated ResNet that DeepLab and PSPNet stand on.

The strides of its last stages are traded for dilation.

maskclip_plus.md §3.2. Names of the tensors as torchvision's and mmsegmentation's. Letters: B images, w width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.checkpoints import read_file
from lexiseg.encoders.weights import find, fit, read_folder, read_json
from lexiseg.errors import WeightsError
from lexiseg.weights import AnyWeights

__all__ = ["RESNETS", "DilatedResNet", "DilatedResNetShape", "our_name"]

EXPANSION = 4  # a bottleneck's output has this many times its inner channels
CLASSIFIERS = ("classifier.", "fc.")  # in front of what stands behind the trunk in a file, and is not needed
STAGES: Mapping[int, tuple[tuple[int, int], ...]] = {  # by output stride: (stride, dilation) of each of the four stages
    8: ((1, 1), (2, 1), (1, 2), (1, 4)),
    16: ((1, 1), (2, 1), (2, 1), (1, 2)),
    32: ((1, 1), (2, 1), (2, 1), (2, 1)),
}


@dataclass(frozen=True)
class DilatedResNetShape:
    """layers: bottlenecks in each stage. width: w, channels of the stem.

    stem: "v1" is one 7x7 convolution, as in the weights on the hub; "v1c" three 3x3 ones, as MaskCLIP's authors use.
    output_stride: pixels per cell of the last map.
    last_dilations: of the bottlenecks of the last stage, times what the output stride asks for; the last number holds
        for all that follow. DeepLab's grid is (1, 2, 4).
    """

    layers: tuple[int, int, int, int]
    width: int = 64
    stem: Literal["v1", "v1c"] = "v1c"
    output_stride: Literal[8, 16, 32] = 8
    last_dilations: tuple[int, ...] = (1,)


RESNETS: Mapping[str, tuple[tuple[int, int, int, int], int]] = {  # layers, width
    "rn50": ((3, 4, 6, 3), 64),
    "rn101": ((3, 4, 23, 3), 64),
    "tiny": ((1, 1, 2, 2), 8),  # for tests
}


class DilatedResNet(nn.Module):
    """images [B, 3, H, W] -> the maps of the four stages, of 4w, 8w, 16w and 32w channels; sides round up.

    The first dilated bottleneck of a stage dilates half as much ("contracted"), as the stage before it did. So every
    fourth row and column of the last map at output stride 8 is the network's last map at stride 32.
    """

    def __init__(self, shape: DilatedResNetShape) -> None:
        super().__init__()
        self.shape = shape
        width, plan = shape.width, STAGES[shape.output_stride]
        if shape.stem == "v1":
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
        else:
            self.stem = _deep_stem(width)
        channels, stages = width, []
        for place, (blocks, (stride, dilation)) in enumerate(zip(shape.layers, plan, strict=True)):
            grid = shape.last_dilations if place == 3 else (1,)
            stages.append(_stage(channels, width * 2**place, blocks, stride=stride, dilation=dilation, grid=grid))
            channels = width * 2**place * EXPANSION
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return tuple(self.shape.width * EXPANSION * 2**place for place in range(4))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each map."""
        strides, total = [], 4
        for stride, _ in STAGES[self.shape.output_stride]:
            total *= stride
            strides.append(total)
        return tuple(strides)

    def fill(self, weights: AnyWeights, *, allow_pickle: bool = False) -> None:
        """Puts pretrained weights in; a classifier beside them is left alone.

        weights: a hub id or folder of transformers' `ResNetModel` ("microsoft/resnet-50"; its stem is "v1"), or a
            file with torchvision's or mmsegmentation's names (`resnet50_v1c`; pickled, so it needs allow_pickle).
        Raises `WeightsError` that names every tensor that is missing, left over or of another shape.
        """
        source = find(weights, allow_pickle=allow_pickle)
        tensors = _read(source, allow_pickle)
        stem = "v1c" if "stem.0.weight" in tensors else "v1"
        if stem != self.shape.stem:
            raise WeightsError(
                f"{source} has a stem of the kind {stem}, this network one of the kind {self.shape.stem}; "
                f"set stem={stem}, or start from random weights"
            )
        known = self.state_dict()
        if extra := sorted(name for name in tensors.keys() - known.keys() if not name.startswith(CLASSIFIERS)):
            raise WeightsError(
                f"{source} holds a deeper or other network: {', '.join(extra)} find no place in this one"
            )
        # some files leave the counters out, which only a BatchNorm without momentum reads
        counters = {name: torch.tensor(0) for name in known if name.endswith(".num_batches_tracked")}
        fit(self, counters | tensors, source=source)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = functional.relu(self.bn1(self.conv1(images))) if self.shape.stem == "v1" else self.stem(images)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # [B, w, H/4, W/4]
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride and the dilation), 1x1, and the shortcut."""

    def __init__(self, channels: int, inner: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, inner * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner * EXPANSION)
        self.downsample: nn.Sequential | None = None
        if stride > 1 or channels != inner * EXPANSION:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, inner * EXPANSION, 1, stride, bias=False), nn.BatchNorm2d(inner * EXPANSION)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.relu(self.bn3(self.conv3(x)) + shortcut)


def _stage(
    channels: int, inner: int, blocks: int, *, stride: int, dilation: int, grid: tuple[int, ...]
) -> nn.Sequential:
    rates = [grid[min(place, len(grid) - 1)] for place in range(blocks)]
    first = Bottleneck(channels, inner, stride=stride, dilation=max(1, dilation // 2) * rates[0])
    rest = [Bottleneck(inner * EXPANSION, inner, stride=1, dilation=dilation * rate) for rate in rates[1:]]
    return nn.Sequential(first, *rest)


def _deep_stem(width: int) -> nn.Sequential:
    """Three 3x3 convolutions, the first one strided, each with BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for channels, outer, stride in ((3, width // 2, 2), (width // 2, width // 2, 1), (width // 2, width, 1)):
        layers += [
            nn.Conv2d(channels, outer, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _read(source: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """Tensors by our names."""
    if source.is_dir():
        tensors = read_folder(source, allow_pickle=allow_pickle)
        if (source / "config.json").is_file() and read_json(source / "config.json").get("downsample_in_bottleneck"):
            raise WeightsError(f"{source} has its strides in the 1x1 convolutions; give weights of the usual ResNet")
    else:
        tensors = read_file(source, allow_pickle=allow_pickle)
    return {our_name(name): tensor for name, tensor in tensors.items()}


def our_name(name: str) -> str:
    """Of a tensor that transformers calls `name`; other names stay."""
    for pattern, ours in _NAMES:
        if found := re.fullmatch(pattern, name):
            numbers = [
                int(number) + 1 if place != 1 else int(number) for place, number in enumerate(found.groups()[:-1])
            ]
            return ours.format(*numbers, found.groups()[-1])
    return name


_BLOCK = r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
# transformers counts stages and convolutions from 0, torchvision from 1; both count blocks from 0
_NAMES = (
    (r"(?:resnet\.)?embedder\.embedder\.convolution\.(\w+)", "conv1.{}"),
    (r"(?:resnet\.)?embedder\.embedder\.normalization\.(\w+)", "bn1.{}"),
    (_BLOCK + r"shortcut\.convolution\.(\w+)", "layer{}.{}.downsample.0.{}"),
    (_BLOCK + r"shortcut\.normalization\.(\w+)", "layer{}.{}.downsample.1.{}"),
    (_BLOCK + r"layer\.(\d+)\.convolution\.(\w+)", "layer{}.{}.conv{}.{}"),
    (_BLOCK + r"layer\.(\d+)\.normalization\.(\w+)", "layer{}.{}.bn{}.{}"),
)
