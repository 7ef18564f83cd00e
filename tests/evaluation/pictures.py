"""Small pictures of plain colours with label maps, in the form of the benchmark "folder"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import lexiseg.methods

COLOURS = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "y": (255, 255, 0), "w": (255, 255, 255)}
NAMES = {"r": "red", "g": "green", "b": "blue", "y": "yellow", "w": "white"}
IGNORED = "."
METHODS = str(Path(__file__).parent / "methods")

Drawing = Sequence[str]


def with_colours(path: Sequence[str]) -> list[str]:
    """The folders of `lexiseg.methods`, and the one that has the method "colours"."""
    return [*path, METHODS]


def know_colours() -> None:
    """For a process of its own, which ends with the test."""
    lexiseg.methods.__path__ = with_colours(lexiseg.methods.__path__)


def draw(drawing: Drawing) -> NDArray[np.uint8]:
    """Rows of letters as pixels."""
    return np.array([[COLOURS[letter] for letter in row] for row in drawing], np.uint8)


def label(drawing: Drawing, classes: Sequence[str]) -> NDArray[np.uint8]:
    ids = {letter: classes.index(NAMES[letter]) for letter in NAMES if NAMES[letter] in classes} | {IGNORED: 255}
    return np.array([[ids[letter] for letter in row] for row in drawing], np.uint8)


def folder(
    root: Path, samples: Mapping[str, tuple[Drawing, Drawing]], classes: Sequence[str] = ("red", "green", "blue")
) -> Path:
    """A data set of (picture, what it shows) by key."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "classes.json").write_text(json.dumps(list(classes)))
    for key, (picture, truth) in samples.items():
        Image.fromarray(draw(picture)).save(root / "images" / f"{key}.png")
        Image.fromarray(label(truth, [*classes, *NAMES.values()])).save(root / "masks" / f"{key}.png")
    return root


# Two pictures with 11 scored pixels, of which 8 are right:
#            truth  predicted  both  either
#   red        4        6        4     6
#   green      5        2        2     5
#   blue       2        3        2     3
TWO = {
    "one": (("rrg", "rbb"), ("rrg", "gb.")),
    "two": (("rr", "gr", "bb"), ("rg", "gr", "bg")),
}


def noise(root: Path, images: int, *, side: int = 12, seed: int = 0) -> Path:
    """Pictures of random colours with random label maps, for what must hold of any."""
    random = np.random.default_rng(seed)
    letters = np.array(list("rgb"))
    samples = {}
    for number in range(images):
        width = side + number % 3
        picture, truth = random.integers(3, size=(2, side, width))
        wrong = random.random((side, width)) < 0.7
        truth = np.where(wrong, picture, truth)
        samples[f"{number:03d}"] = tuple(["".join(letters[row]) for row in drawing] for drawing in (picture, truth))
    return folder(root, samples)
