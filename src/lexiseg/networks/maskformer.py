"""Proposes masks by queries: MaskFormer's network without its class head.

Cheng, Schwing and Kirillov, "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021;
zsseg.md §4.2. A backbone's maps become features of every pixel (an FPN) and N query vectors (a transformer decoder that
looks at the coarsest map); the product of a query with the pixels is its mask. What a query's class is, and whether
masks are compared with words at all, is left to the method.

The parts are those of transformers. Its decoder normalises the outputs of earlier layers otherwise than the authors'
does, so the loop over its layers is here: one LayerNorm for the outputs of all layers, and none between them.

Letters: B images, S decoder layers, N queries, D width of a query, h w grid of the finest map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import MaskFormerConfig
from transformers.models.maskformer.modeling_maskformer import (
    MaskformerMLPPredictionHead,
    MaskFormerPixelDecoder,
    MaskFormerTransformerModule,
)

from lexiseg.encoders import efficientnet_lite as lite
from lexiseg.errors import SettingError, UnknownName, WeightsError
from lexiseg.networks.backbones import ClipBackbone, TransformersBackbone, clip_config, pad, transformers_config
from lexiseg.networks.dilated_resnet import RESNETS, DilatedResNet, DilatedResNetShape
from lexiseg.segmenter import at_least_float32
from lexiseg.weights import AnyWeights, Weights

__all__ = ["MULTIPLE", "MaskFormerNetwork", "MaskFormerShape", "Queries"]

MULTIPLE = 32  # pixels that pictures are padded to: the cells of the coarsest map of most backbones
GROUPS = 32  # of channels that are normalised together, so widths are multiples of it
DEEPLAB = (1, 2, 4)  # dilations in the last stage of "rn50c" and "rn101c"

USUAL_WEIGHTS = {  # ImageNet's
    "rn50": "microsoft/resnet-50",
    "rn101": "microsoft/resnet-101",
    "swin-t": "microsoft/swin-tiny-patch4-window7-224",
    "swin-s": "microsoft/swin-small-patch4-window7-224",
    "swin-b": "microsoft/swin-base-patch4-window12-384",
}
_SWIN: dict[str, Any] = {"model_type": "swin", "image_size": 224, "window_size": 7}
SWINS: Mapping[str, dict[str, Any]] = {
    "swin-t": {**_SWIN, "embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]},
    "swin-s": {**_SWIN, "embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24]},
    "swin-b": {
        **_SWIN, "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "image_size": 384,
        "window_size": 12,
    },
}  # fmt: skip


@dataclass(frozen=True)
class MaskFormerShape:
    """backbone: "rn50", "rn101", "swin-t", "swin-s", "swin-b"; "rn50c" and "rn101c" have DeepLab's stem of three
        convolutions and its dilations in the last stage; "lite0" to "lite2" are EfficientNet-Lite, "tiny" is for
        tests; "transformers:SOURCE" and "clip:SOURCE" are any backbone of transformers or ResNet of a CLIP, as
        `Weights.of` reads it.
    fixed_norms: batch normalisation keeps the numbers that the backbone came with, in training too.
    queries: N.
    width: of queries and of the pixels' features, a multiple of 32 from 64 on (so that one cell can be normalised).
    layers, heads, ffn: of the transformer decoder, and the width of its feed-forward part.
    dropout: in the decoder, 0-1.
    """

    backbone: str = "rn101"
    fixed_norms: bool = True
    queries: int = 100
    width: int = 256
    layers: int = 6
    heads: int = 8
    ffn: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("queries", "layers", "heads", "ffn"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.width < 2 * GROUPS or self.width % GROUPS or self.width % self.heads:
            raise SettingError(
                f"width must be a multiple of {GROUPS} from {2 * GROUPS} on, and of the heads, got {self.width}"
            )
        if not 0 <= self.dropout < 1:
            raise SettingError(f"dropout must be 0 or more and below 1, got {self.dropout}")


@dataclass(frozen=True, eq=False)
class Queries:
    """What each decoder layer says, the last one last.

    queries: [S, B, N, D]. masks: logits in float32 [S, B, N, h, w].
    covers: pixels (height, width) that the grid spans, the padding included.
    """

    queries: Tensor
    masks: Tensor
    covers: tuple[int, int]


class MaskFormerNetwork(nn.Module):
    """Normalised images [B, 3, H, W] of any size -> `Queries`. Weights are random until the backbone is filled.

    stride: pixels per cell of the masks.
    source_config: what config.json says about the backbone's SOURCE, if known; else it is read from there.
    Raises `UnknownName`, `SettingError`, and `WeightsError` for a SOURCE that cannot be read.
    """

    def __init__(self, shape: MaskFormerShape, *, source_config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.backbone = _backbone(shape, source_config)
        channels = list(self.backbone.channels)
        if len(channels) < 2:
            raise SettingError(f"the backbone {shape.backbone} has maps of one size; MaskFormer needs two or more")
        self.stride = int(self.backbone.strides[0])
        width = shape.width
        self.pixels = MaskFormerPixelDecoder(
            in_features=channels[-1], lateral_widths=channels[:-1], feature_size=width, mask_feature_size=width
        )
        self.decoder = MaskFormerTransformerModule(in_features=channels[-1], config=_config(shape))
        self.mask_head = MaskformerMLPPredictionHead(width, width, width)
        self._initialise()

    @property
    def source_config(self) -> Mapping[str, Any] | None:
        """What the backbone was built from, where its name does not say it all."""
        return None if self.shape.backbone in SWINS else getattr(self.backbone, "config", None)

    def fill_backbone(self, weights: AnyWeights | None = None, *, allow_pickle: bool = False) -> None:
        """Puts pretrained weights into the backbone.

        weights: None are ImageNet's, from the hub or a package, or what the backbone's SOURCE holds.
        Raises `WeightsError` for weights that are missing or do not fit, `MissingDependency` without the package.
        """
        if isinstance(self.backbone, lite.Trunk):
            if weights is not None:
                raise WeightsError(f"the weights of {self.shape.backbone} come from its package; set start_from=usual")
            self.backbone.load_state_dict(lite.read_package(self.shape.backbone).trunk.state_dict())
            return
        usual: AnyWeights | None = USUAL_WEIGHTS.get(self.shape.backbone)
        if usual is None and ":" in self.shape.backbone:
            usual = Weights.of(self.shape.backbone)
        wanted = usual if weights is None else weights
        if wanted is None or not hasattr(self.backbone, "fill"):
            raise WeightsError(
                f"there are no usual weights for the backbone {self.shape.backbone}; name some, or train from scratch"
            )
        self.backbone.fill(wanted, allow_pickle=allow_pickle)

    def forward(self, images: Tensor, *, deep: bool = False) -> Queries:
        """deep: what all decoder layers say, for training; else the last one alone."""
        padded = pad(images, MULTIPLE)
        maps = self.backbone(padded)
        features = self.pixels(maps).last_hidden_state  # [B, D, h, w]
        queries = self._queries(maps[-1], deep)  # [S, B, N, D]
        vectors = at_least_float32(self.mask_head(queries))
        masks = torch.einsum("sbnd,bdhw->sbnhw", vectors, at_least_float32(features))
        return Queries(queries, masks, (padded.shape[-2], padded.shape[-1]))

    def train(self, mode: bool = True) -> MaskFormerNetwork:
        super().train(mode)
        for module in self._fixed():
            module.eval()
        return self

    def _queries(self, coarsest: Tensor, deep: bool) -> Tensor:
        module: Any = self.decoder
        cells = coarsest if module.input_projection is None else module.input_projection(coarsest)
        places = module.position_embedder(cells.shape, cells.device, torch.float32).to(cells.dtype, copy=True)
        cells, places = cells.flatten(2).mT, places.flatten(2).mT  # [B, L, D]
        names = module.queries_embedder.weight.expand(len(cells), -1, -1)  # [B, N, D]
        states, found = torch.zeros_like(names), []
        for layer in module.decoder.layers:
            states = layer(states, None, places, names, cells)
            found.append(states)
        outputs = torch.stack(found if deep else found[-1:])
        normed: Tensor = module.decoder.layernorm(outputs)
        return normed

    def _fixed(self) -> list[nn.Module]:
        fixed = self.shape.fixed_norms
        return [each for each in self.backbone.modules() if fixed and isinstance(each, _BatchNorm)]

    @torch.no_grad()
    def _initialise(self) -> None:
        """As the authors begin: Xavier's in the decoder, He's with a = 1 in the convolutions, the rest torch's."""
        for each in self.pixels.modules():
            if isinstance(each, nn.Conv2d):
                nn.init.kaiming_uniform_(each.weight, a=1)
        for parameter in self.decoder.decoder.layers.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        if self.decoder.input_projection is not None:
            nn.init.kaiming_uniform_(self.decoder.input_projection.weight, a=1)
            nn.init.zeros_(self.decoder.input_projection.bias)
        if isinstance(self.backbone, DilatedResNet):
            for each in self.backbone.modules():
                if isinstance(each, nn.Conv2d):
                    nn.init.kaiming_normal_(each.weight, mode="fan_out", nonlinearity="relu")
        for module in self._fixed():
            module.requires_grad_(False)
        # the first layer's states are zeros, so what its self-attention and norm make of them is one constant; the
        # norm's bias is that alone, without the division by a variance of zero on the way back
        first = self.decoder.decoder.layers[0]
        first.self_attn.requires_grad_(False)
        first.self_attn_layer_norm.weight.requires_grad_(False)


def _config(shape: MaskFormerShape) -> Any:
    """What transformers builds its decoder from. Dropout is everywhere where the authors' decoder has it."""
    decoder = {
        "model_type": "detr",
        "d_model": shape.width,
        "num_queries": shape.queries,
        "decoder_layers": shape.layers,
        "decoder_attention_heads": shape.heads,
        "decoder_ffn_dim": shape.ffn,
        "dropout": shape.dropout,
        "attention_dropout": shape.dropout,
        "activation_dropout": shape.dropout,
    }
    return MaskFormerConfig(decoder_config=decoder, fpn_feature_size=shape.width, mask_feature_size=shape.width)


def _backbone(shape: MaskFormerShape, config: Mapping[str, Any] | None) -> Any:
    name = shape.backbone
    if name in lite.LITES and name not in RESNETS:
        return lite.Trunk(lite.LITES[name])
    if name in SWINS:
        return TransformersBackbone(SWINS[name], finest=4)
    source = Weights.of(name)
    if source.layout == "clip":
        return ClipBackbone(clip_config(source) if config is None else config, output_stride=32)
    if source.layout == "transformers":
        return TransformersBackbone(transformers_config(source) if config is None else config, finest=4)
    plain = name.removesuffix("c")
    if plain not in RESNETS:
        raise UnknownName("backbone", name, _known())
    layers, width = RESNETS[plain]
    if plain == name:
        return DilatedResNet(DilatedResNetShape(layers, width, "v1", 32))
    return DilatedResNet(DilatedResNetShape(layers, width, "v1c", 32, DEEPLAB))


def _known() -> list[str]:
    lites = [name for name in lite.LITES if name not in RESNETS]
    return [*RESNETS, "rn50c", "rn101c", *SWINS, *lites, "transformers:SOURCE", "clip:SOURCE"]
