"""Makes training samples of images with label maps.

It decides which labels the model may see, and augments both together.

Label maps of training batches are int64 [B, H, W]: class indices, UNLABELLED where there is something to be learned
without a label, and the data set's ignore value (255, or 65535 above 255 classes) where nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lexiseg.data.geometry import Geometry
from lexiseg.data.transforms import photometric_distortion, to_tensor
from lexiseg.errors import DataError

__all__ = [
    "MASKCLIP_PLUS",
    "UNLABELLED",
    "ZSSEG",
    "DenseAugmentation",
    "Relabelling",
]

UNLABELLED = -1

Labels = NDArray[np.int64]

MEAN_COLOUR = (124, 116, 104)  # of ImageNet, RGB levels


@dataclass(frozen=True)
class Relabelling:
    """What the model is told about the labels.

    ignore: the data set's value for pixels that do not count.
    hidden: classes that become `ignore`, for training on seen classes only.
    suppressed: classes that become UNLABELLED, for pseudo-labels to fill (docs/papers/maskclip_plus.md §3.3).
    """

    ignore: int = 255
    hidden: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()

    def __call__(self, truth: NDArray[Any]) -> Labels:
        """Class indices [H, W] as training labels; raises `DataError` for indices beyond `ignore`."""
        table = np.arange(self.ignore + 1, dtype=np.int64)
        table[list(self.hidden)] = self.ignore
        table[list(self.suppressed)] = UNLABELLED
        highest = int(truth.max(initial=0))
        if highest > self.ignore:
            raise DataError(f"a label map holds {highest}, above its ignore value {self.ignore}; give the right one")
        return np.asarray(table[truth])


@dataclass(frozen=True)
class DenseAugmentation:
    """Resize, crop, flip, colours, pad: in that order, image and labels together. Sizes are in pixels.

    crop: (height, width) of the result.
    scale, ratio: the picture is fitted into (long side, short side) = `scale` times a random ratio, keeping its shape.
    short_sides, longest: if given, one of these becomes the short side instead, as far as `longest` allows.
    most_of_one: a crop is drawn again, up to ten times, while one label covers this share of its pixels or more,
        0-1; ignored pixels do not count. 1 takes the first crop.
    distort: SSD's photometric distortion.
    pad: RGB levels of padding; the mean colour by default, which a network sees as zeros, nearly.
    """

    crop: tuple[int, int] = (512, 512)
    scale: tuple[int, int] = (2048, 512)
    ratio: tuple[float, float] = (0.5, 2.0)
    short_sides: tuple[int, ...] = ()
    longest: int = 2560
    most_of_one: float = 0.75
    flip: float = 0.5
    distort: bool = True
    pad: tuple[int, int, int] = MEAN_COLOUR

    def __call__(
        self, image: NDArray[np.uint8], labels: Labels, random: np.random.Generator, *, ignore: int = 255
    ) -> tuple[Tensor, Tensor]:
        """RGB [H, W, 3] and labels [H, W] as uint8 [3, h, w] and int64 [h, w] of size `crop`."""
        geometry = self.draw(labels, random, ignore=ignore)
        picture = geometry.picture(Image.fromarray(image))
        if self.distort:
            picture = photometric_distortion(picture, random)
        return self._padded(picture, geometry.map(labels), ignore)

    def draw(self, labels: Labels, random: np.random.Generator, *, ignore: int = 255) -> Geometry:
        """Which part of a picture with these labels to show, at which size; `crop` or less."""
        height, width = self.resized((labels.shape[0], labels.shape[1]), random)
        whole = Geometry((0, 0, labels.shape[1], labels.shape[0]), (height, width))
        top, left = self._place(whole, labels, random, ignore)
        kept = left, top, min(left + self.crop[1], width), min(top + self.crop[0], height)
        return replace(whole, kept=kept, mirror=random.random() < self.flip)

    def resized(self, size: tuple[int, int], random: np.random.Generator) -> tuple[int, int]:
        """A drawn (height, width) for a picture of `size`, in its shape."""
        long, short = max(size), min(size)
        if self.short_sides:
            wanted = self.short_sides[int(random.integers(len(self.short_sides)))]
            factor = min(wanted / short, self.longest / long)
        else:
            ratio = random.uniform(*self.ratio)
            limits = [int(side * ratio) for side in self.scale]
            factor = min(max(limits) / long, min(limits) / short)
        height, width = (max(1, int(side * factor + 0.5)) for side in size)
        return height, width

    def _place(self, whole: Geometry, labels: Labels, random: np.random.Generator, ignore: int) -> tuple[int, int]:
        """Top left corner of the crop in the resized picture. After ten draws that fail, the eleventh is taken."""
        height, width = self.crop
        room = [max(0, have - want) + 1 for have, want in zip(whole.size, self.crop, strict=True)]
        labels = labels if self.most_of_one >= 1 else whole.map(labels)
        for _ in range(10):
            top, left = (int(random.integers(places)) for places in room)
            if self.most_of_one >= 1:
                return top, left
            part = labels[top : top + height, left : left + width]
            counts = np.bincount(part.reshape(-1) - UNLABELLED, minlength=ignore - UNLABELLED + 1)
            counts[ignore - UNLABELLED] = 0
            if (counts > 0).sum() > 1 and counts.max() < self.most_of_one * counts.sum():
                return top, left
        return int(random.integers(room[0])), int(random.integers(room[1]))

    def _padded(self, picture: Image.Image, labels: NDArray[np.int64], ignore: int) -> tuple[Tensor, Tensor]:
        """Padding lies to the right and below."""
        image = to_tensor(picture)  # [3, h, w]
        padded = torch.tensor(self.pad, dtype=torch.uint8).view(3, 1, 1).repeat(1, *self.crop)
        padded[:, : image.shape[1], : image.shape[2]] = image
        padded_labels = torch.full(self.crop, ignore, dtype=torch.int64)
        padded_labels[: image.shape[1], : image.shape[2]] = torch.from_numpy(labels.copy())
        return padded, padded_labels


MASKCLIP_PLUS = DenseAugmentation()
"""VOC, COCO-Stuff and ADE (maskclip_plus.md §3.6). Context has crop 480 and scale (520, 520), Cityscapes crop
(512, 1024) and scale (2048, 1024). The authors resize without antialiasing."""

ZSSEG = DenseAugmentation(crop=(640, 640), short_sides=tuple(range(320, 961, 64)), most_of_one=1.0, pad=(128, 128, 128))
"""ZSSeg's on COCO-Stuff. VOC has crop 512 and `longest` 2048."""
