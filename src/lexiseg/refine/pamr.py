"""Refines by letting posteriors flow between like pixels (PAMR).

PAMR is pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020).

With I the image and N(i) the 8 neighbours of pixel i at each of several distances,

    k(i, j) = -|I_i - I_j| / s_i    averaged over the three colours
    a(i, j) = softmax over j in N(i) of k(i, j)
    m(i)   <- sum over j in N(i) of a(i, j) m(j)    repeated

s_i comes from the local standard deviation of the intensities, over all neighbours and i itself. The paper divides by
its square; the authors' code, with which the published numbers were made, by a tenth of it, which alone makes k
independent of the contrast of the image. A setting chooses; "released" is the default. Outside the image the nearest
pixel counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.refine._candidates import check_rgb, refine_candidates

__all__ = ["DEFAULT", "Config", "pamr", "refine"]

RELEASED_SHARE = 0.1  # of the standard deviation
SMALLEST = 1e-8  # added to what is divided by


@dataclass(frozen=True)
class Config:
    """The defaults are the authors'.

    iterations: how often the posterior flows.
    dilations: distances of the neighbours, pixels.
    contrast: what differences of colour are divided by: "released" 0.1 s, "paper" s^2; s is the deviation, of 0-1.
    candidates: classes of one image that `refine` refines, at most; see `_candidates.py`.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    contrast: Literal["released", "paper"] = "released"
    candidates: int = 32

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.candidates < 1:
            raise SettingError(f"iterations={self.iterations}, candidates={self.candidates}; give 1 or more of each")
        if not self.dilations or min(self.dilations) < 1:
            raise SettingError(f"dilations={self.dilations} are no distances; give one or more of 1 pixel or more")
        if self.contrast not in ("released", "paper"):
            raise SettingError(f"contrast is {self.contrast!r}; give 'released' or 'paper'")


DEFAULT = Config()


def refine(logits: Tensor, rgb: npt.NDArray[np.uint8], *, config: Config = DEFAULT) -> Tensor:
    """Class logits [C, h, w] on any grid and RGB uint8 [H, W, 3] to logits [C, H, W] of the refined posterior.

    A background is a class like any other. Above `config.candidates` classes only the likeliest are refined.

    Raises `SettingError` for more logits than fit in memory, `ImageError` for pixels that are not uint8 RGB.
    """
    smallest = torch.finfo(torch.float32).tiny  # -inf at single pixels would spread when the decoder interpolates
    return refine_candidates(
        logits, rgb, config.candidates, lambda posterior: pamr(posterior, rgb, config=config).clamp(min=smallest).log()
    )


def pamr(masks: Tensor, rgb: npt.NDArray[np.uint8], *, config: Config = DEFAULT) -> Tensor:
    """Masks or posteriors [C, H, W] of the image `rgb` uint8 [H, W, 3], refined; each channel for itself.

    Raises `ImageError` where the sizes differ or the pixels are not uint8 RGB.
    """
    check_rgb(rgb, masks)
    pixels = torch.from_numpy(rgb).to(masks.device).permute(2, 0, 1).float() / 255
    shares, masks = _shares(pixels, config), masks.float()
    for _ in range(config.iterations):
        flown = torch.zeros_like(masks)
        for share, neighbour in zip(shares, _neighbours(masks, config.dilations), strict=True):
            flown.addcmul_(share, neighbour)
        masks = flown
    return masks


def _shares(pixels: Tensor, config: Config) -> Tensor:
    """a: [8 * dilations, H, W] of pixels [3, H, W] in 0-1."""
    deviation = _deviation(pixels.double(), config.dilations).float()
    scale = (deviation**2 if config.contrast == "paper" else RELEASED_SHARE * deviation) + SMALLEST
    likeness = [-((pixels - other).abs() / scale).mean(dim=0) for other in _neighbours(pixels, config.dilations)]
    return torch.stack(likeness).softmax(dim=0)


def _deviation(pixels: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """Standard deviation (n - 1) of each colour over the 3 x 3 pixels of every dilation, the middle once for each."""
    count = 9 * len(dilations)
    total, squares = len(dilations) * pixels, len(dilations) * pixels**2
    for other in _neighbours(pixels, dilations):
        total, squares = total + other, squares + other**2
    return ((squares - total**2 / count) / (count - 1)).clamp(min=0).sqrt()


def _neighbours(values: Tensor, dilations: tuple[int, ...]) -> Iterator[Tensor]:
    """The field [C, H, W] as seen by the neighbours of each pixel: 8 views for each dilation."""
    reach, (height, width) = max(dilations), values.shape[-2:]
    padded = F.pad(values[None], (reach,) * 4, mode="replicate")[0]
    for dilation, (down, right) in itertools.product(dilations, itertools.product((-1, 0, 1), repeat=2)):
        if down or right:
            top, left = reach + down * dilation, reach + right * dilation
            yield padded[:, top : top + height, left : left + width]
