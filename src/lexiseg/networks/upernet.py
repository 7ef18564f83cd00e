"""Builds UperNet and the pyramid of a plain ViT.

The pyramid makes a plain vision transformer fit for it: S-Seg+'s student.

Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, with the modules of transformers; the
pyramid is BEiT's (Bao et al., 2021), on a ViT that MAE has taught (docs/papers/s_seg.md §4.7). Letters: B images,
W width of the ViT, D dimension of the text vectors, h w grid, P patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import UperNetConfig, ViTConfig, ViTMAEModel, ViTModel
from transformers.models.upernet.modeling_upernet import UperNetHead

from lexiseg.encoders.weights import find
from lexiseg.errors import SettingError, WeightsError, first_line
from lexiseg.networks.backbones import pad
from lexiseg.weights import AnyWeights

__all__ = ["VITS", "UperHead", "VitPyramid"]

VITS = ("vit", "vit_mae")  # the kinds of models that the pyramid stands on
DEPTHS = (4, 6, 8, 12)  # of twelve layers, those that are read


class UperHead(nn.Module):
    """Averages of regions beside the last map, then a pyramid down to the first, all together, and a linear map to D.

    width: channels inside; None is as many as the last map has, as BEiT's.
    """

    level = 0
    reads = "all"

    def __init__(
        self, channels: Sequence[int], dimension: int, *, width: int | None = None, pools: Sequence[int] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        config = UperNetConfig(
            hidden_size=width or channels[-1],
            pool_scales=list(pools),
            num_labels=dimension,
            use_auxiliary_head=False,
        )
        self.layers: Any = UperNetHead(config, list(channels))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Raises `SettingError` for a single image in training, whose mean over itself a batch norm would make zero."""
        first_norm = self.layers.psp_modules.blocks[0].layers[1].batch_norm
        if len(maps[0]) == 1 and self.training and isinstance(first_norm, nn.BatchNorm2d):
            raise SettingError(
                "this student averages whole images and normalises over the batch, so one image at a time cannot train "
                "it; give batches of two or more, or take deeplabv2"
            )
        features: Tensor = self.layers(list(maps))
        return features


class VitPyramid(nn.Module):
    """A plain ViT of transformers: images [B, 3, H, W] -> maps [B, W, h, w] with cells of P / 4, P / 2, P and 2 P.

    The outputs of four of its layers (4, 6, 8 and 12 of twelve) are brought to four sizes by transposed convolutions
    and a pooling. Weights are random; there is no relative position bias.

    config: that of a ViT, or of one that MAE taught. Raises `WeightsError` for another.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        if config.get("model_type") not in VITS:
            raise WeightsError(
                f"the pyramid stands on a plain ViT, not on a {config.get('model_type')}; give one such as "
                "facebook/vit-mae-base"
            )
        known = ViTConfig()
        told = {name: value for name, value in config.items() if hasattr(known, name) and not name.startswith("_")}
        told = {name: value for name, value in told.items() if name not in ("model_type", "architectures")}
        self.model = ViTModel(ViTConfig(**told), add_pooling_layer=False)
        self.model.layernorm = nn.Identity()  # of the last layer alone, which is read without it
        width, patch, layers = (int(config[name]) for name in ("hidden_size", "patch_size", "num_hidden_layers"))
        if patch % 4:
            raise SettingError(f"a pyramid needs patches of a multiple of 4 pixels, and this ViT's have {patch}")
        self.reads = tuple(max(1, round(depth * layers / DEPTHS[-1])) for depth in DEPTHS)
        self.patch = patch
        self.channels = (width,) * len(DEPTHS)
        self.strides = (patch // 4, patch // 2, patch, 2 * patch)
        self.steps = nn.ModuleList(
            (
                nn.Sequential(_double(width), nn.BatchNorm2d(width), nn.GELU(), _double(width)),
                _double(width),
                nn.Identity(),
                nn.MaxPool2d(2),
            )
        )

    def fill(self, weights: AnyWeights, *, allow_pickle: bool = False) -> None:
        """Puts pretrained weights into the ViT; a decoder, a pool or a last norm beside it is left alone.

        Raises `WeightsError`.
        """
        place = find(weights, allow_pickle=allow_pickle)
        kind = ViTMAEModel if self.config["model_type"] == "vit_mae" else ViTModel
        try:
            model, report = kind.from_pretrained(
                place,
                dtype=torch.float32,
                use_safetensors=None if allow_pickle else True,
                local_files_only=True,
                output_loading_info=True,
            )
            state = {name: each for name, each in model.state_dict().items() if not name.startswith(_UNREAD)}
            missing = sorted(name for name in map(str, report["missing_keys"]) if not name.startswith(_UNREAD))
            if missing:
                raise ValueError(f"{missing[0]} is missing")
            self.model.load_state_dict(state)
        except Exception as error:  # of many kinds
            raise WeightsError(
                f"{place} does not hold the weights of this ViT ({first_line(error)}); copy it again, or give others"
            ) from error

    def forward(self, images: Tensor) -> list[Tensor]:
        images = pad(images, self.strides[-1])
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        found = self.model(images, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
        cells = [found[depth][:, 1:].mT.reshape(len(images), -1, *grid) for depth in self.reads]
        return [step(each) for step, each in zip(self.steps, cells, strict=True)]


_UNREAD = ("layernorm.", "pooler.")


def _double(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 2, stride=2)
