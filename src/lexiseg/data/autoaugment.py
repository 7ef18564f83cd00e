"""Applies AutoAugment's policy for ImageNet to pictures.

It has 25 pairs of picture operations, of which one pair is drawn per picture.

Cubuk et al., "AutoAugment: Learning Augmentation Policies from Data", CVPR 2019, appendix (the pairs, and the
range of each operation). SimSeg trains with it and fills what a shear or rotation uncovers with grey 128.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["ENHANCERS", "PLAIN", "POLICY", "apply", "autoaugment"]

_GREY = (128, 128, 128)
_LEVELS = 9  # magnitudes run from 0 to 9

# (operation, probability, magnitude), twice; operations without a range have magnitude 0
Step = tuple[str, float, int]
POLICY: tuple[tuple[Step, Step], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)


def autoaugment(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """One of the policy's pairs, each half with its own probability; shears, rotations and colours take either sign."""
    for operation, probability, magnitude in POLICY[int(random.integers(len(POLICY)))]:
        use, sign = random.random() < probability, 1 if random.random() < 0.5 else -1
        if use:
            image = apply(image, operation, magnitude, sign=sign)
    return image


def apply(image: Image.Image, operation: str, magnitude: int, *, sign: int = 1) -> Image.Image:
    """One operation at magnitude 0-9. Ranges: shear 0-0.3, rotation 0-30 degrees, posterize 8-4 bits, solarize
    threshold 256-0, enhancements a factor of 1 -+ 0-0.9."""
    share = magnitude / _LEVELS
    if operation == "shear_x":
        shear = (1, sign * 0.3 * share, 0, 0, 1, 0)
        return image.transform(
            image.size, Image.Transform.AFFINE, shear, resample=Image.Resampling.BICUBIC, fillcolor=_GREY
        )
    if operation == "rotate":
        return image.rotate(sign * 30 * share, resample=Image.Resampling.NEAREST, fillcolor=_GREY)
    if operation == "posterize":
        return ImageOps.posterize(image, round(8 - 4 * share))
    if operation == "solarize":
        return ImageOps.solarize(image, round(256 * (1 - share)))
    if operation in ENHANCERS:
        enhanced: Image.Image = ENHANCERS[operation](image).enhance(1 + sign * 0.9 * share)
        return enhanced
    return PLAIN[operation](image)


ENHANCERS: dict[str, Callable[[Image.Image], Any]] = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
PLAIN: dict[str, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
}
