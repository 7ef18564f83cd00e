"""Crops, flips and recolours training pictures.

Every random number comes in as an argument.

Pictures are Pillow's RGB images until `to_tensor`. A function that draws takes a numpy `Generator`, so one seed per
sample decides everything about it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lexiseg.data.autoaugment import autoaugment
from lexiseg.data.geometry import Box, Geometry
from lexiseg.data.randaugment import erase, randaugment

__all__ = [
    "RESAMPLE",
    "PairAugmentation",
    "crop_box",
    "photometric_distortion",
    "to_tensor",
]

RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class PairAugmentation:
    """What happens to the picture of an image-text pair: crop and resize, flip, colours.

    size: side of the square that the model sees, pixels.
    area, ratio: of the crop; a share of the picture's area, and width over height.
    flip: probability of a mirror image. Captions say left and right, so most recipes keep it at 0.
    policy: "autoaugment" adds the ImageNet policy of AutoAugment, "randaugment" two operations of RandAugment's.
    distort: adds `photometric_distortion`.
    erase: probability of noise in a box (random erasing).

    `draw` and `picture` are the two halves of a call, between which maps can be cropped with the picture. Those cannot
    follow the policy, which shears and rotates.
    """

    size: int = 224
    area: tuple[float, float] = (0.6, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.0
    policy: Literal["none", "autoaugment", "randaugment"] = "none"
    distort: bool = False
    erase: float = 0.0

    def __call__(self, image: Image.Image, random: np.random.Generator) -> Tensor:
        """The picture as the model's input, uint8 [3, size, size]."""
        return self.picture(image, self.draw(image, random), random)

    def draw(self, image: Image.Image, random: np.random.Generator) -> Geometry:
        """Which part of a picture to show."""
        box = crop_box(image.width, image.height, random, area=self.area, ratio=self.ratio)
        return Geometry(box, (self.size, self.size), mirror=random.random() < self.flip)

    def picture(self, image: Image.Image, geometry: Geometry, random: np.random.Generator) -> Tensor:
        """That part as the model's input, with colours drawn."""
        image = geometry.picture(image, RESAMPLE[self.resample])
        if self.policy == "autoaugment":
            image = autoaugment(image, random)
        if self.policy == "randaugment":
            image = randaugment(image, random)
        if self.distort:
            image = photometric_distortion(image, random)
        if not (self.erase and random.random() < self.erase):
            return to_tensor(image)
        pixels = np.array(image)
        erase(pixels, random)
        return to_tensor(Image.fromarray(pixels))


def crop_box(
    width: int, height: int, random: np.random.Generator, *, area: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """Inception's random crop: area uniform in a share of the picture's, log of width / height uniform.

    After ten boxes that do not fit, the largest centred one whose ratio is allowed.
    """
    for _ in range(10):
        wanted = width * height * random.uniform(*area)
        shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_width, box_height = round(math.sqrt(wanted * shape)), round(math.sqrt(wanted / shape))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(random.integers(width - box_width + 1))
            top = int(random.integers(height - box_height + 1))
            return left, top, left + box_width, top + box_height
    shape = min(max(width / height, ratio[0]), ratio[1])
    box_width, box_height = min(width, max(1, round(height * shape))), min(height, max(1, round(width / shape)))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def photometric_distortion(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """SSD's colour changes, each with probability one half: brightness, contrast, saturation, hue.

    Brightness by up to 32 of 255 levels, contrast and saturation by a factor of 0.5 to 1.5, hue by up to 18 of 180
    half degrees (docs/papers/maskclip_plus.md §3.6). Contrast comes second or last, at even odds.
    """
    brightness = random.uniform(-32, 32) * (random.random() < 0.5)
    contrast = random.uniform(0.5, 1.5) if random.random() < 0.5 else 1.0
    saturation = random.uniform(0.5, 1.5) if random.random() < 0.5 else 1.0
    hue = random.uniform(-18, 18) / 180 * (random.random() < 0.5)
    contrast_last = random.random() < 0.5
    image = _linear(image, 1.0, brightness)
    if not contrast_last:
        image = _linear(image, contrast, 0.0)
    image = _shift_colours(image, saturation, hue)
    return _linear(image, contrast, 0.0) if contrast_last else image


def _linear(image: Image.Image, factor: float, shift: float) -> Image.Image:
    """level * factor + shift, clipped to 0-255."""
    if factor == 1.0 and shift == 0.0:
        return image
    levels = (np.arange(256) * factor + shift).round().clip(0, 255).astype(np.uint8)
    return image.point(levels.tolist() * 3)


def _shift_colours(image: Image.Image, saturation: float, turns: float) -> Image.Image:
    """Multiplies the saturation and turns the hue by a share of the colour circle, in HSV of 256 levels each."""
    if saturation == 1.0 and turns == 0.0:
        return image
    levels = np.arange(256)
    hue = (levels + round(turns * 256)) % 256
    grey = (levels * saturation).round().clip(0, 255).astype(int)
    return image.convert("HSV").point([*hue.tolist(), *grey.tolist(), *levels.tolist()]).convert("RGB")


def to_tensor(image: Image.Image | NDArray[np.uint8]) -> Tensor:
    """RGB [H, W, 3] as uint8 [3, H, W]."""
    return torch.from_numpy(np.array(image, np.uint8)).permute(2, 0, 1).contiguous()
