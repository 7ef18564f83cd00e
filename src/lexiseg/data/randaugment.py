"""Applies RandAugment and random erasing to pictures.

A picture gets a few of many operations, all of one strength.

Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", CVPR Workshops 2020, in
the variant that vision transformers are trained with ("m9-mstd0.5-inc1"): strengths vary a little, an operation that is
drawn is used half of the time, and every operation does more the stronger it is. Zhong et al., "Random Erasing Data
Augmentation", AAAI 2020. GroupViT trains with both.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from lexiseg.data.autoaugment import ENHANCERS, PLAIN

__all__ = ["OPERATIONS", "apply", "erase", "randaugment"]

OPERATIONS = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
STRONGEST = 10.0
AREA, RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)  # of what is erased: a share of the picture's area; height over width
_NOISE_MEAN, _NOISE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, RGB in 0-1
_MEAN = tuple(round(255 * value) for value in _NOISE_MEAN)  # fills what is uncovered
_SOLARIZED = 128  # the threshold of "solarize_add"


def randaugment(
    image: Image.Image, random: np.random.Generator, *, operations: int = 2, strength: float = 9.0, spread: float = 0.5
) -> Image.Image:
    """Draws `operations` of OPERATIONS, some of them maybe twice, and uses each with probability one half.

    strength, spread: mean and standard deviation of how strong each is, 0-10.
    """
    for place in random.integers(len(OPERATIONS), size=operations):
        use, sign = random.random() < 0.5, 1 if random.random() < 0.5 else -1
        drawn = min(max(float(random.normal(strength, spread)), 0.0), STRONGEST)
        if use:
            image = apply(image, OPERATIONS[place], drawn / STRONGEST, sign=sign)
    return image


def apply(image: Image.Image, operation: str, share: float, *, sign: int = 1) -> Image.Image:
    """One operation at a share of its range, 0-1.

    Ranges: rotation 30 degrees; shears 0.3; shifts 0.45 of the side; posterize from 4 bits to 1; solarize thresholds
    from 256 to 0; "solarize_add" adds up to 110 levels below 128; enhancements a factor of 1 -+ 0.9.
    """
    if operation == "rotate":
        return image.rotate(sign * 30 * share, resample=Image.Resampling.BILINEAR, fillcolor=_MEAN)
    if operation in ("shear_x", "shear_y", "translate_x", "translate_y"):
        return _moved(image, operation, sign * share)
    if operation == "posterize":
        return ImageOps.posterize(image, max(1, 4 - int(4 * share)))
    if operation == "solarize":
        return ImageOps.solarize(image, 256 - int(256 * share))
    if operation == "solarize_add":
        lighter = [min(255, level + int(110 * share)) if level < _SOLARIZED else level for level in range(256)]
        return image.point(lighter * 3)
    if operation in _ENHANCERS:
        enhanced: Image.Image = _ENHANCERS[operation](image).enhance(max(0.1, 1 + sign * 0.9 * share))
        return enhanced
    return PLAIN[operation](image)


def erase(pixels: np.ndarray, random: np.random.Generator) -> None:
    """Puts noise of ImageNet's mean and deviation into a random box of RGB bytes [H, W, 3], in place.

    After ten boxes that do not fit, nothing is erased.
    """
    height, width = pixels.shape[:2]
    for _ in range(10):
        area = height * width * random.uniform(*AREA)
        shape = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        rows, columns = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < rows < height and 0 < columns < width:
            top, left = int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1))
            noise = random.standard_normal((rows, columns, 3)) * _NOISE_STD + _NOISE_MEAN
            pixels[top : top + rows, left : left + columns] = (255 * noise).round().clip(0, 255)
            return


def _moved(image: Image.Image, operation: str, share: float) -> Image.Image:
    across, down = operation.endswith("_x"), operation.endswith("_y")
    shear, shift = 0.3 * share * operation.startswith("shear"), 0.45 * share * operation.startswith("translate")
    matrix = (1, shear * across, shift * across * image.width, shear * down, 1, shift * down * image.height)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=_MEAN
    )


_ENHANCERS = {**ENHANCERS, "brightness": ImageEnhance.Brightness}
