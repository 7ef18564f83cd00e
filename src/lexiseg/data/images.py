"""Pictures as they come from the world, as RGB: rotated as the camera says, on white, eight bits a channel."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lexiseg.data.loader import BadSample

__all__ = ["IMAGE_SUFFIXES", "read_rgb"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def read_rgb(file: bytes | Path) -> Image.Image:
    """The picture in a file or in its bytes, decoded; raises `BadSample` for one that is missing, broken or empty.

    EXIF rotation is applied, transparent pixels become white, 16-bit greys are scaled down, and the first frame
    stands for an animation.
    """
    if isinstance(file, Path) and not file.is_file():
        raise BadSample("missing image", str(file))
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's readers raise anything from OSError to SyntaxError and struct.error
        raise BadSample("broken image", str(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey
        return Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
