"""Builds the networks that a teacher trains.

They are ordinary segmentation networks whose classifier is left to the words.

A student turns images into one raw vector per place; what compares these with text vectors is the method's. It is a
backbone and a head: the paper's DeepLab (maskclip_plus.md §3.2), PSPNet, an FCN, a small network for CPUs, or
any backbone of transformers or tower of CLIP. Letters: B images, D dimension of the text vectors, h w grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.networks.backbones import (
    ClipBackbone,
    TransformersBackbone,
    clip_config,
    transformers_config,
)
from lexiseg.networks.dilated_resnet import RESNETS, DilatedResNet, DilatedResNetShape
from lexiseg.networks.heads import DeepLabV2Head, DeepLabV3PlusHead, FcnHead, FpnHead, Head, PspHead, PyramidHead
from lexiseg.networks.mini_trunk import MINIS, MiniTrunk
from lexiseg.networks.upernet import VITS, UperHead, VitPyramid
from lexiseg.weights import AnyWeights, Weights

__all__ = ["StudentNetwork", "StudentShape"]

HEADS: Mapping[str, type[Head | UperHead]] = {
    "deeplabv2": DeepLabV2Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "pspnet": PspHead,
    "fcn": FcnHead,
    "fpn": FpnHead,
    "upernet": UperHead,
    "mini": PyramidHead,
    "transformers": PyramidHead,
}
USUAL_WEIGHTS = {"rn50": "microsoft/resnet-50", "rn101": "microsoft/resnet-101"}  # ImageNet's, of the stem "v1"


@dataclass(frozen=True)
class StudentShape:
    """network: the head. "mini" and "transformers" sum the maps of all stages, "fpn" is a feature pyramid of them.
        "clip" is a CLIP tower with its own projection, read out at every place as MaskCLIP does, so that it starts
        where such a teacher stands.
    backbone: "rn50", "rn101" or, for tests, "tiny"; under the same heads also "clip:SOURCE" and "transformers:SOURCE".
        Under "upernet" a plain ViT of the latter, such as MAE's, gets a pyramid of four maps. "mini" or "tiny" for the
        network "mini". For the networks "transformers" and "clip" the SOURCE itself, as
        `Weights.of` reads it; the former takes "clip:SOURCE" too.
    stem: of "rn50", "rn101" and "tiny". "v1c" is the paper's, three 3x3 convolutions; "v1", one of 7x7, is what
        ImageNet's weights on the hub have.
    output_stride: pixels per cell of a ResNet's last map; 32 dilates nothing. For the network "transformers", which
        dilates nothing, of the finest map that is read.
    """

    network: Literal[
        "deeplabv2", "deeplabv3plus", "pspnet", "fcn", "fpn", "upernet", "mini", "transformers", "clip"
    ] = "deeplabv2"
    backbone: str = "rn101"
    stem: Literal["v1", "v1c"] = "v1c"
    output_stride: Literal[8, 16, 32] = 8


class StudentNetwork(nn.Module):
    """images [B, 3, H, W], normalised -> raw features [B, D, h, w], h = ceil(H / stride), for any H and W.

    Weights are random; `load_pretrained` fills the backbone. stride: pixels per cell. The features of DeepLab, PSPNet
    and FCN end with a ReLU, so none of them is negative; those of "fpn", "mini", "transformers" and "clip" end with a
    linear map. PSPNet and DeepLabV3+ train on two images or more at a time, since they normalise averages of images.
    and FCN end with a ReLU, so none of them is negative; the others end with a linear map. PSPNet, DeepLabV3+ and
    UperNet train on two images or more at a time, since they normalise averages of whole images.

    source_config: what config.json says about the backbone's SOURCE, if known; else it is read from there.
    Raises `SettingError` for parts that do not go together, `WeightsError` for a SOURCE that cannot be read.
    """

    def __init__(self, shape: StudentShape, dimension: int, *, source_config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.shape, self.dimension = shape, dimension
        self.backbone = _backbone(shape, source_config)
        self.head: nn.Module
        if shape.network == "clip":
            self.head, level = _ReadOut(self.backbone.channels, dimension), -1
        else:
            kind = HEADS[shape.network]
            self.head, level = kind(self.backbone.channels, dimension), kind.level
        self.stride: int = self.backbone.strides[level]
        for part in (self.head, self.backbone) if _is_own(self.backbone) else (self.head,):
            part.apply(_initialise)

    def load_pretrained(self, weights: AnyWeights | None = None, *, allow_pickle: bool = False) -> None:
        """Fills the backbone; call it before the student moves to a device or gets an optimiser.

        weights: for a ResNet see `DilatedResNet.fill`; else a SOURCE. None: ImageNet's for "rn50" and "rn101" (stem
            "v1"), and what the backbone's SOURCE holds.
        Raises `WeightsError` that names every tensor that is missing or has another shape.
        """
        usual: AnyWeights | None = USUAL_WEIGHTS.get(self.shape.backbone)
        if not isinstance(self.backbone, DilatedResNet):
            usual = Weights.of(self.shape.backbone)
        if isinstance(self.backbone, MiniTrunk) or (weights is None and usual is None):
            raise WeightsError(
                f"there are no pretrained weights for {self.shape.network}/{self.shape.backbone}; train it from scratch"
            )
        self.backbone.fill(usual if weights is None else weights, allow_pickle=allow_pickle)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        features: Tensor = self.head(self.backbone(images))
        # some backbones pad to whole cells of their coarsest map; what lies beyond the image goes
        return features[..., : -(-height // self.stride), : -(-width // self.stride)]


class _ReadOut(nn.Module):
    """The last map as it is; its channels are those of the text vectors of the same CLIP."""

    def __init__(self, channels: Sequence[int], dimension: int) -> None:
        super().__init__()
        if channels[-1] != dimension:
            raise SettingError(
                f"this CLIP's vectors have {channels[-1]} channels, the teacher's words {dimension}; "
                "take the teacher's own CLIP, or another network"
            )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return maps[-1]


def _is_own(backbone: nn.Module) -> bool:
    return isinstance(backbone, (DilatedResNet, MiniTrunk))


def _initialise(module: nn.Module) -> None:
    """As usual for a ResNet: He's normal distribution by the outputs of a convolution."""
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _backbone(shape: StudentShape, config: Mapping[str, Any] | None) -> Any:
    network, name, stride = shape.network, shape.backbone, shape.output_stride
    source = Weights.of(name)
    if not source.name:
        raise SettingError(f"the backbone {name!r} names no model; give one, for example student.backbone=clip:FOLDER")
    if network == "mini":
        if name not in MINIS:
            raise UnknownName("backbone of the network 'mini'", name, MINIS)
        return MiniTrunk(MINIS[name])
    if network == "clip" or source.layout == "clip":
        config = clip_config(source) if config is None else config
        if network == "transformers":
            return ClipBackbone(config, output_stride=32, finest=stride)
        return ClipBackbone(config, read_out=network == "clip", output_stride=stride)
    if network == "transformers" or source.layout == "transformers":
        config = transformers_config(source) if config is None else config
        if network == "upernet" and config.get("model_type") in VITS:
            return VitPyramid(config)
        return TransformersBackbone(config, finest=stride, reads=HEADS[network].reads)
    if name not in RESNETS:
        raise UnknownName("backbone", name, [*RESNETS, "clip:SOURCE", "transformers:SOURCE"])
    layers, width = RESNETS[name]
    return DilatedResNet(DilatedResNetShape(layers, width, shape.stem, stride))
