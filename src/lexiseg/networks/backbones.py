"""Builds backbones of a student from CLIP's and transformers' models.

The `config` that a backbone is built from is kept beside the student's weights, so that a saved student needs neither
the hub nor the folder it started from. Letters: B images, L cells, W channels of a tower, D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoBackbone, AutoConfig

from lexiseg.encoders import openai
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_lite import ClipLite
from lexiseg.encoders.clip_resnet import Bottleneck, ClipResNet
from lexiseg.encoders.clip_shape import build
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.weights import find, fit, read_json
from lexiseg.errors import SettingError, WeightsError, first_line
from lexiseg.networks.dilated_resnet import STAGES
from lexiseg.weights import AnyWeights

__all__ = ["ClipBackbone", "TransformersBackbone", "clip_config", "transformers_config"]

PROBE = 448  # pixels: a multiple of the cells of all backbones, 14 and 32 among them


class ClipBackbone(nn.Module):
    """A CLIP image tower without its pooling: images [B, 3, H, W] -> maps, the last one [B, W or D, h, w].

    config: a CLIP's, as `Clip` keeps it. read_out: whether the map is what MaskCLIP reads out (maskclip.md
        §2.3, §2.4), of D channels; else a ViT gives its last block's tokens after their LayerNorm, and a ResNet the
        maps of its four stages. output_stride: 8, 16 or 32 pixels per cell of a ResNet's last map; below 32 its last
        stages are dilated. A ViT's cells are its patches. finest: pixels per cell; a ResNet's maps with smaller cells
        are left out.

    Parameters that play no part then are left out, so that all that remain receive gradients.
    """

    def __init__(
        self, config: Mapping[str, Any], *, read_out: bool = False, output_stride: int = 8, finest: int = 4
    ) -> None:
        super().__init__()
        self.config = dict(config)
        self.tower, _, _ = build(config)
        self.read_out = read_out
        self.channels: tuple[int, ...]
        self.strides: tuple[int, ...]
        if isinstance(self.tower, ClipVit):
            _prune_vit(self.tower, read_out)
            self.strides = (self.tower.patch,)
            self.channels = (self.tower.width,)
        elif isinstance(self.tower, ClipLite):
            raise SettingError("a CLIP on EfficientNet-Lite is not a backbone here; give a CLIP with a ViT or a ResNet")
        else:
            _prune_resnet(self.tower, read_out)
            self.strides = _dilate(self.tower, output_stride)
            self.channels = tuple(self.tower.width // 2**place for place in (3, 2, 1, 0))
        left_out = sum(stride < finest for stride in self.strides[:-1])
        self.channels, self.strides = self.channels[left_out:], self.strides[left_out:]
        if read_out:
            self.channels, self.strides = (self.tower.embed_dim,), self.strides[-1:]

    def fill(self, weights: AnyWeights, *, allow_pickle: bool = False) -> None:
        """Raises `WeightsError`."""
        clip = Clip.load(weights, allow_pickle=allow_pickle)
        fit(self.tower, clip.vision.state_dict(), source=str(weights))

    def forward(self, images: Tensor) -> list[Tensor]:
        if isinstance(self.tower, ClipVit):
            return [_vit_map(self.tower, images, self.read_out)]
        assert isinstance(self.tower, ClipResNet), "the others are refused"
        maps = self.tower.maps(pad(images, self.strides[-1]))
        return [self.tower.attnpool.cells(maps[-1])] if self.read_out else maps[-len(self.strides) :]


def clip_config(source: AnyWeights) -> dict[str, Any]:
    """The config of a CLIP anywhere. Raises `WeightsError`."""
    place = find(source, weights_too=False)
    if place.name == "model.safetensors":
        place = place.parent
    if place.is_dir():
        return read_json(place / "config.json")
    return openai.infer_shape(openai.read_file(place), place).config()


class TransformersBackbone(nn.Module):
    """Any backbone that transformers' `AutoBackbone` knows: images [B, 3, H, W] -> the last map of each resolution.

    config: that of the model. finest: pixels per cell; maps with smaller cells are left out, if others are there.
    reads: which of them are wanted, "all", the "first and last" or the "last". Parameters that play no part in those
        are frozen.
    Raises `WeightsError` for a model that is not a backbone, or takes pictures of one size only.
    """

    def __init__(self, config: Mapping[str, Any], *, finest: int = 8, reads: str = "all") -> None:
        super().__init__()
        self.config = dict(config)
        chosen, used = _probe(self.config, finest, reads)
        self.strides = tuple(stride for _, stride, _ in chosen)
        self.channels = tuple(channels for _, _, channels in chosen)
        self.model = _build(self.config, [index for index, _, _ in chosen])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in used)

    def fill(self, weights: AnyWeights, *, allow_pickle: bool = False) -> None:
        """Raises `WeightsError` that names every tensor that is missing or has another shape."""
        place = find(weights, allow_pickle=allow_pickle)
        try:
            model, report = type(self.model).from_pretrained(
                place,
                config=self.model.config,
                dtype=torch.float32,
                use_safetensors=None if allow_pickle else True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # of many kinds
            raise WeightsError(f"{place} cannot be read as a backbone ({first_line(error)}); copy it again") from error
        # the norms after each map belong to segmentation, and no pretrained model has them
        missing = {name for name in report["missing_keys"] if not name.startswith("hidden_states_norms.")}
        if wrong := sorted(map(str, [*missing, *report["mismatched_keys"]])):
            raise WeightsError(
                f"{place} does not fit a {type(self.model).__name__}: {', '.join(wrong)}; give the weights of one"
            )
        self.model.load_state_dict(model.state_dict())

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.model(pad(images, self.strides[-1])).feature_maps)


def transformers_config(source: AnyWeights) -> dict[str, Any]:
    """The config of a model on the hub or in a folder. Raises `WeightsError`."""
    return read_json(find(source, weights_too=False) / "config.json")


def pad(images: Tensor, multiple: int) -> Tensor:
    """With zeros, the mean colour, at the right and at the bottom."""
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple))


def _prune_vit(tower: ClipVit, read_out: bool) -> None:
    if read_out:
        attention = tower.last_block.self_attn
        attention.q_proj = attention.k_proj = nn.Identity()
    else:
        tower.projection = nn.Identity()  # type: ignore[assignment]


def _vit_map(tower: ClipVit, images: Tensor, read_out: bool) -> Tensor:
    """[B, D, h, w] by the value path with its residual and FFN (§2.3), or [B, W, h, w] of the whole last block."""
    tokens, grid = tower.tokens(images)  # [B, 1 + L, W]
    if read_out:
        cells = tower.project(tower.values(tokens))
    else:
        cells = tower.model.post_layernorm(tower.last_block(tokens, None)[:, 1:])
    return cells.mT.reshape(len(cells), -1, *grid)


def _prune_resnet(tower: ClipResNet, read_out: bool) -> None:
    pool = tower.attnpool
    if not read_out:
        tower.attnpool = nn.Identity()  # type: ignore[assignment]
        return
    del pool.positional_embedding
    pool.q_proj = pool.k_proj = nn.Identity()  # type: ignore[assignment]


def _dilate(tower: ClipResNet, output_stride: int) -> tuple[int, ...]:
    """Trades the average pools of the last stages for dilation, contracted as in `DilatedResNet`; the four strides."""
    if output_stride not in STAGES:
        raise SettingError(f"output_stride is {output_stride}; for a ResNet choose from {', '.join(map(str, STAGES))}")
    strides, total = [], 4
    stages = (tower.layer1, tower.layer2, tower.layer3, tower.layer4)
    for stage, (stride, dilation) in zip(stages, STAGES[output_stride], strict=True):
        total *= stride
        strides.append(total)
        for place, block in enumerate(stage):
            assert isinstance(block, Bottleneck), "the stages of a CLIP ResNet hold bottlenecks"
            rate = dilation if place else max(1, dilation // 2)
            block.conv2.dilation = block.conv2.padding = (rate, rate)
            if dilation > 1 and block.stride > 1:
                block.stride = 1
                setattr(block.downsample, "-1", nn.Identity())
    return tuple(strides)


def _probe(config: Mapping[str, Any], finest: int, reads: str) -> tuple[list[tuple[int, int, int]], set[str]]:
    """(index, pixels per cell, channels) of the maps to read, finest first, and the parameters that make them.

    Measured on a model without numbers, since configs say it in many ways.
    """
    with torch.device("meta"), torch.inference_mode(False), torch.enable_grad():
        model = _build(config, None)
        try:
            maps = model(torch.zeros(2, 3, PROBE, PROBE)).feature_maps
        except Exception as error:  # of many kinds
            kind = config.get("model_type")
            raise WeightsError(
                f"a {kind} cannot look at {PROBE}x{PROBE} pixels ({first_line(error)}); give a backbone for any size, "
                "such as a ResNet, Swin, ConvNeXt or DINOv2"
            ) from error
        last = {PROBE // found.shape[-1]: index for index, found in enumerate(maps)}  # of each resolution
        strides = sorted(stride for stride in last if stride >= finest) or [max(last)]
        strides = {"all": strides, "first and last": sorted({strides[0], strides[-1]}), "last": strides[-1:]}[reads]
        chosen = [(last[stride], stride, int(maps[last[stride]].shape[1])) for stride in strides]
        names, parameters = zip(*model.named_parameters(), strict=True)
        total = torch.stack([maps[index].sum() for index, _, _ in chosen]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return chosen, {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}


def _build(config: Mapping[str, Any], out_indices: list[int] | None) -> Any:
    """With random weights; `out_indices` None is all maps."""
    settings = {name: value for name, value in config.items() if name not in ("out_features", "out_indices")}
    kind = settings.pop("model_type", None)
    try:
        described = AutoConfig.for_model(kind, **settings)
        described.out_indices = list(range(len(described.stage_names))) if out_indices is None else out_indices
        return AutoBackbone.from_config(described)
    except (AttributeError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise WeightsError(
            f"transformers has no backbone for model_type {kind!r} ({first_line(error)}); "
            "give a model such as a ResNet, Swin, ConvNeXt or DINOv2"
        ) from error
