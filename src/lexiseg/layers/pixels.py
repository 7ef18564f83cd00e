"""Normalises RGB bytes with the statistics of a network's weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lexiseg.errors import SettingError

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Statistics",
    "check",
    "dtype_of",
    "mean_and_std",
    "normalise",
]

RGB = tuple[float, float, float]
Statistics = Literal["clip", "imagenet"] | tuple[RGB, RGB]  # a name, or mean and standard deviation of RGB in 0-1

# as OpenAI published them with CLIP, and as ImageNet models use them
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def mean_and_std(statistics: Statistics) -> tuple[RGB, RGB]:
    """Mean and standard deviation per channel, of RGB in 0-1."""
    if isinstance(statistics, str):
        return {"clip": (CLIP_MEAN, CLIP_STD), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}[statistics]
    return statistics


def check(statistics: Statistics) -> None:
    """Raises `SettingError` for statistics that no picture can be normalised with."""
    mean, std = mean_and_std(statistics)
    if not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std):
        raise SettingError(
            f"statistics={statistics} has a mean that is not finite or a standard deviation that is not above 0; "
            "give clip, imagenet, or mean and standard deviation of RGB in 0-1, for example [[0.5, 0.5, 0.5], "
            "[0.25, 0.25, 0.25]]"
        )


def normalise(images: Tensor, statistics: Statistics, dtype: torch.dtype = torch.float32) -> Tensor:
    """RGB uint8 [..., 3, H, W] as (level / 255 - mean) / std per channel, computed in float32 or better, in `dtype`."""
    assert images.dtype == torch.uint8, "images are bytes"
    mean, std = mean_and_std(statistics)
    wide = torch.promote_types(dtype, torch.float32)
    scale = [1 / (255 * value) for value in std]
    shift = [-value / spread for value, spread in zip(mean, std, strict=True)]
    weight, bias = (torch.tensor(values, device=images.device, dtype=wide).view(3, 1, 1) for values in (scale, shift))
    return images.to(wide).mul_(weight).add_(bias).to(dtype)


def dtype_of(module: nn.Module) -> torch.dtype:
    """What a network computes in: the dtype of its first weight that is not a scalar; float32 where it has none.

    A scalar, such as a logit scale, may be more precise than the rest.
    """
    return next((weight.dtype for weight in module.parameters() if weight.ndim), torch.float32)
