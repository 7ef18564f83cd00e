"""Converts sRGB to OKLab and back.

OKLab is lightness, and two axes of colour that keep their hue as lightness changes.

Björn Ottosson (2020), "A perceptual color space for image processing".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["from_srgb", "to_srgb"]

Floats = npt.NDArray[np.float64]

TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def from_srgb(colours: npt.NDArray[np.uint8]) -> Floats:
    """OKLab [..., 3] of sRGB 0-255 [..., 3]; lightness is 0-1."""
    encoded = colours / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(light @ TO_CONES.T) @ TO_LAB.T)


def to_srgb(lab: Floats) -> npt.NDArray[np.uint8]:
    """sRGB 0-255 [..., 3] of OKLab [..., 3]; what a screen cannot show is cut to what it can."""
    cones = lab @ np.linalg.inv(TO_LAB).T
    light = (cones**3 @ np.linalg.inv(TO_CONES).T).clip(0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray((255 * encoded).round().astype(np.uint8))
