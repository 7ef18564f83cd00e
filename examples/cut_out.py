"""Cuts one class out of a photograph, on a transparent ground.

python examples/cut_out.py cat.jpg "cat, floor, wall" cat cut-out.png
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageOps

import lexiseg


def main(photograph: str, words: str, name: str, picture: str) -> None:
    mask = lexiseg.load("maskclip/mini").segment(photograph, words).mask(name)
    with Image.open(photograph) as image:
        cut = ImageOps.exif_transpose(image).convert("RGBA")
    cut.putalpha(Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)))
    cut.save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:5])
