"""Resizes a photograph to the network's input."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.inference.upsample import Axis
from lexiseg.segmenter import Inference

__all__ = ["MAX_UPSCALED_ASPECT", "prepare", "resize", "target_size"]

MAX_UPSCALED_ASPECT = 16  # an enlarged picture has at most this many squares of its short side

Size = tuple[int, int]


def target_size(height: int, width: int, inference: Inference, *, scale: float = 1.0) -> Size:
    """(height, width) of the network's input for a photograph of `height` x `width` pixels.

    scale: of `inference.scales`; both sides times it, before they are rounded.

    The arithmetic of mmseg (docs/papers/maskclip.md §2.2), then both sides to the nearest multiple of
    `inference.multiple`, at least one. One bound is ours: a photograph that would be *enlarged* beyond
    MAX_UPSCALED_ASPECT x short_side² pixels (a 1 x 5000 strip, say) is enlarged to that area only.
    """
    if inference.size is not None:
        height, width = (int(side * scale + 0.5) for side in inference.size)
    else:
        factor = _factor(height, width, inference) * scale
        height, width = (int(side * factor + 0.5) for side in (height, width))
    return _to_multiple(height, inference.multiple), _to_multiple(width, inference.multiple)


def _factor(height: int, width: int, inference: Inference) -> float:
    short, long = sorted((height, width))
    factors = []
    if inference.short_side is not None:
        factors.append(inference.short_side / short)
    if inference.long_side is not None:
        factors.append(inference.long_side / long)
    factor = min(factors, default=1.0)
    if factor > 1 and inference.short_side is not None:
        area = max(height * width, MAX_UPSCALED_ASPECT * inference.short_side**2)
        factor = min(factor, math.sqrt(area / (height * width)))
    return factor


def _to_multiple(side: int, multiple: int) -> int:
    return max(1, int(side / multiple + 0.5)) * multiple


def resize(rgb: npt.NDArray[np.uint8], size: Size, inference: Inference) -> Tensor:
    """uint8 [H, W, 3] to uint8 [3, *size].

    With `antialias` the result is Pillow's to within two levels, in a tenth of the time. Most values are equal; at
    288 x 288 the median photograph has 1.4 % of them one level off, and some have a fifth (docs/log.md). Without, it is
    plain interpolation at the nearest pixels, as OpenCV does it and the released protocols were run.
    """
    # a view with channels last, which the kernel likes; torch warns of arrays that cannot be written (memory maps)
    pixels = torch.from_numpy(np.require(rgb, requirements="W")).permute(2, 0, 1)  # [3, H, W]
    if pixels.shape[1:] == size:
        return pixels
    if inference.antialias:
        return F.interpolate(pixels[None], size, mode=inference.resample, antialias=True, align_corners=False)[0]
    if inference.resample == "bilinear":  # only the rows and columns that count are touched
        rows, columns = Axis.of(pixels.shape[1], size[0]), Axis.of(pixels.shape[2], size[1])
        resized = columns.upsample(rows.upsample(pixels).mT).mT
    else:  # in float: torch's uint8 bicubic without antialiasing uses another kernel
        resized = F.interpolate(pixels[None].float(), size, mode=inference.resample, align_corners=False)[0]
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def prepare(rgb: npt.NDArray[np.uint8], inference: Inference) -> Tensor:
    """RGB uint8 [H, W, 3] as the network's input, uint8 [3, h, w], at the first scale."""
    size = target_size(rgb.shape[0], rgb.shape[1], inference, scale=inference.scales[0])
    return resize(rgb, size, inference)
