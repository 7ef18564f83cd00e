"""Groups the pixels of a picture by their colours into superpixels.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, as scikit-image has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import SettingError

__all__ = ["Felzenszwalb"]


@dataclass(frozen=True)
class Felzenszwalb:
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

    def labels(self, rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The number of the superpixel of each pixel, from 0: RGB [H, W, 3] -> int32 [H, W]. Scales nothing."""
        from skimage.segmentation import felzenszwalb

        found = felzenszwalb(rgb, scale=self.scale, sigma=self.sigma, min_size=self.min_size)
        return np.asarray(found, np.int32)
