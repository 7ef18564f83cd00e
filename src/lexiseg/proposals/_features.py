"""Opens networks whose features are clustered.

They are any vision model of transformers, a CLIP's trunk, or EfficientNet-Lite.

Each takes pictures of one size, uint8 [B, 3, H, W], and gives one vector per cell [B, W, h, w]. Where a network comes
from says what its clusters have seen: nothing (colours), photographs alone (DINO), labels of whole photographs
(EfficientNet-Lite, a ViT of ImageNet), captions (CLIP).

Letters: B images, L cells, W channels of a feature, h w grid.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal

from torch import Tensor, nn

from lexiseg.encoders import efficientnet_lite as lite
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.clip_vit import ClipVit
from lexiseg.encoders.weights import find, read_json
from lexiseg.errors import SettingError, WeightsError, first_line
from lexiseg.layers import pixels

__all__ = ["COLOURS", "Reading", "open_features"]

COLOURS = "colours"
LITES = tuple(name for name in lite.LITES if name != "tiny")  # those that packages bring ImageNet's weights of
LITE_LEVEL = 2  # the map of stride 16: the next one is too coarse for parts of a picture

Reading = Literal["tokens", "keys"]


class Colours(nn.Module):
    """The picture's own colours, 0-1."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


class ClipFeatures(nn.Module):
    """What a CLIP's image tower has before its projection: a ViT's patch tokens, or a ResNet's last map."""

    def __init__(self, clip: Clip, read: Reading) -> None:
        super().__init__()
        if read == "keys" and not isinstance(clip.vision, ClipVit):
            raise SettingError("read=keys is for networks of patch tokens; set read=tokens for a CLIP-ResNet")
        self.vision, self.statistics, self.read = clip.vision, (clip.mean, clip.std), read

    def forward(self, images: Tensor) -> Tensor:
        images = pixels.normalise(images, self.statistics, pixels.dtype_of(self.vision))
        if not isinstance(self.vision, ClipVit):
            trunk: Tensor = self.vision.trunk(images)
            return trunk
        tokens, grid = self.vision.tokens(images)
        last = self.vision.last_block
        if self.read == "keys":
            patches: Tensor = last.self_attn.k_proj(last.layer_norm1(tokens))[:, 1:]  # [B, L, W]
        else:
            patches = self.vision.model.post_layernorm(last(tokens, None)[:, 1:])
        return patches.mT.reshape(len(patches), -1, *grid)


class LiteFeatures(nn.Module):
    """EfficientNet-Lite's map of stride 16, which the labels of ImageNet have taught."""

    def __init__(self, trunk: lite.Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        images = pixels.normalise(images, (lite.MEAN, lite.STD), pixels.dtype_of(self.trunk))
        found: Tensor = self.trunk(images)[LITE_LEVEL]
        return found


class TransformersFeatures(nn.Module):
    """The last states of any vision model of transformers, after its last norm, at its patches or cells.

    read: "keys" are those of the last attention layer. Class and register tokens, which come first, are left out.
    """

    def __init__(self, model: Any, read: Reading) -> None:
        super().__init__()
        self.model, self.read = model, read
        self.patch = int(getattr(model.config, "patch_size", 0) or 0)
        self._resizes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self._keys = (_last_keys(model),) if read == "keys" else ()  # no part of its own: it has a name already

    def forward(self, images: Tensor) -> Tensor:
        images = pixels.normalise(images, "imagenet", pixels.dtype_of(self.model))
        more = {"interpolate_pos_encoding": True} if self._resizes else {}
        found: list[Tensor] = []
        hooks = [each.register_forward_hook(lambda module, given, output: found.append(output)) for each in self._keys]
        try:
            states: Tensor = self.model(images, **more).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return self._as_map(found[0].flatten(2) if found else states, (images.shape[-2], images.shape[-1]))

    def _as_map(self, states: Tensor, size: tuple[int, int]) -> Tensor:
        """[B, tokens, W] or [B, W, h, w] -> [B, W, h, w]"""
        if states.ndim == 4:
            return states
        count = states.shape[1]
        grid = (size[0] // self.patch, size[1] // self.patch) if self.patch else (0, 0)
        if not self.patch or grid[0] * grid[1] > count:  # a pyramid: its last map is coarser than its patches
            side = math.isqrt(count)
            grid = (side, count // max(side, 1))
        cells = states[:, count - grid[0] * grid[1] :]
        return cells.mT.reshape(len(cells), -1, *grid)


def open_features(name: str, *, side: int, read: Reading = "tokens") -> nn.Module:
    """The network of a name, with its weights: "colours", "lite0" to "lite2", or the hub id or folder of a model.

    side: pixels of the squares that it will get.
    Raises `WeightsError` for a model that cannot be had, `SettingError` for one that cannot be read so,
    `MissingDependency` for EfficientNet-Lite without its package.
    """
    if name in (COLOURS, *LITES):
        if read == "keys":
            raise SettingError(f"read=keys is for networks of patch tokens, and features={name} has none")
        return Colours() if name == COLOURS else LiteFeatures(lite.read_package(name).trunk)
    folder = find(name)
    if folder.is_file() or read_json(folder / "config.json").get("model_type", "").startswith(("clip", "lexiseg_clip")):
        return ClipFeatures(Clip.load(name), read)
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(folder)
    except Exception as error:  # of many kinds: another architecture, damaged or missing files
        raise WeightsError(
            f"features={name} cannot be loaded ({first_line(error)}); give a CLIP, or a vision model of transformers "
            "such as facebook/dino-vits8"
        ) from error
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise WeightsError(f"features={name} does not look at pictures; give a vision model or a CLIP")
    patch = int(getattr(model.config, "patch_size", 0) or 0)
    if patch and side % patch:
        raise SettingError(f"side must be a multiple of the patch, {patch}, got {side}")
    return TransformersFeatures(model, read)


def _last_keys(model: nn.Module) -> nn.Module:
    """The layer that makes the keys of the last attention; transformers has called it both ways."""
    found = [each for name, each in model.named_modules() if name.rpartition(".")[2] in ("k_proj", "key")]
    if not found:
        raise SettingError(f"a {type(model).__name__} has no keys that could be read; set read=tokens")
    last: nn.Module = found[-1]
    return last
