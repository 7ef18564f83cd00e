"""Groups pixels of like colour into superpixels, as SegCLIP does.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, as scikit-image has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexiseg.data.pictures.superpixels import Felzenszwalb
from lexiseg.proposals._proposals import Proposals
from lexiseg.proposals._scaling import to_short_side

__all__ = ["Config", "Superpixels", "load", "superpixels"]


@dataclass(frozen=True)
class Config(Felzenszwalb):
    """See `Felzenszwalb`; the defaults are SegCLIP's."""


def superpixels(rgb: NDArray[np.uint8], config: Config) -> NDArray[np.int32]:
    """The number of the superpixel of each pixel, from 0: RGB [H, W, 3] -> int32 [H, W]."""
    return config.labels(rgb)


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
