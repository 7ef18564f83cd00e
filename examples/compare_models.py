"""Labels one photograph with two models and says where they disagree.

python examples/compare_models.py street.jpg "road, car, sky" maskclip/mini simseg/mini disagreement.png
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

import lexiseg


def main(photograph: str, words: str, first: str, second: str, picture: str) -> None:
    one, other = (lexiseg.load(model).segment(photograph, words) for model in (first, second))
    differ = one.labels != other.labels
    print(f"{first}: {one}\n{second}: {other}\nthey disagree on {differ.mean():.1%} of the pixels")
    Image.fromarray(np.where(differ, 255, 0).astype(np.uint8)).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:6])
