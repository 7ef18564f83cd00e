"""Groups pixels of like colour into superpixels: SegCLIP's, and a picture's parts for anyone.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, as scikit-image has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb
from torch import Tensor

from lexiseg.errors import SettingError
from lexiseg.proposals._proposals import Proposals
from lexiseg.proposals._scaling import to_short_side

__all__ = ["Config", "Superpixels", "load", "superpixels"]


@dataclass(frozen=True)
class Config:
    """scale: how unlike neighbours must be to stay apart; larger gives larger superpixels.
    sigma: of the Gaussian that smooths the picture first, pixels.
    min_size: pixels of the smallest superpixel.
    short_side: pixels that a picture is scaled to first; None keeps its size.

    The defaults are SegCLIP's.
    """

    scale: float = 224.0
    sigma: float = 0.9
    min_size: int = 224
    short_side: int | None = 224

    def __post_init__(self) -> None:
        for name in ("scale", "sigma"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise SettingError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("min_size", "short_side"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise SettingError(f"{name} must be 1 pixel or more, got {getattr(self, name)}")


def superpixels(rgb: NDArray[np.uint8], config: Config) -> NDArray[np.int32]:
    """The number of the superpixel of each pixel, from 0: RGB [H, W, 3] -> int32 [H, W]."""
    found = felzenszwalb(rgb, scale=config.scale, sigma=config.sigma, min_size=config.min_size)
    return np.asarray(found, np.int32)


@dataclass(frozen=True)
class Superpixels:
    config: Config

    def propose(self, images: Tensor) -> Proposals:
        if self.config.short_side is not None:
            images = to_short_side(images, self.config.short_side)
        maps = [torch.from_numpy(superpixels(each.permute(1, 2, 0).cpu().numpy(), self.config)) for each in images]
        return Proposals.of_labels(torch.stack(maps).to(images.device))


def load(config: Config) -> Superpixels:
    return Superpixels(config)
