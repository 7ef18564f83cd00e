"""Draws textured shapes on textured grounds, with captions and masks.

Made on the fly, the same for every seed, so that tests, TOY recipes and tutorials need no data. It shows that code
works and that a loss goes down. It never counts as a result: no score on scenes belongs in a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["COLOURS", "GROUNDS", "SHAPES", "Scene", "SceneSample", "Scenes", "class_names", "unseen_classes"]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "green": (50, 160, 60),
    "blue": (45, 75, 205),
    "yellow": (230, 205, 50),
    "purple": (140, 55, 165),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
GROUNDS = ("plain", "striped", "checked", "dotted")

_RGB = np.array(list(COLOURS.values()), np.float64)
_OBJECTS = len(COLOURS) * len(SHAPES)  # classes; those of the grounds follow
_GREYS = np.array([[70] * 3, [130] * 3])  # the two tones of a ground
_FORMS = ("a photo of {}.", "a picture of {}.", "there is {}.", "{}.")

Pixels = NDArray[np.uint8]
Coordinates = NDArray[np.float64]


def class_names() -> tuple[str, ...]:
    """The classes of the label maps in order: "red circle" and so on, each colour with each shape, then the grounds."""
    return tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES) + tuple(
        f"{ground} ground" for ground in GROUNDS
    )


def unseen_classes() -> tuple[int, ...]:
    """The combinations kept out of the "seen" split: one shape of each colour, and each shape once."""
    return tuple(colour * len(SHAPES) + colour for colour in range(len(COLOURS)))


@dataclass(frozen=True, eq=False)
class Scene:
    """image: RGB [size, size, 3]; labels: indices into `class_names()` [size, size]; captions: each names all of it."""

    image: Pixels
    labels: Pixels
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Scenes:
    """`count` pictures of `size` pixels square; both pairs (`Pairs`) and, by `samples`, pictures with label maps.

    split: "all" draws every combination; "seen" leaves out `unseen_classes()`; "unseen" has one of them in each
        picture.
    objects: fewest and most shapes in a picture.
    seed: another one gives other pictures, for validation.
    """

    count: int = 1024
    size: int = 64
    split: Literal["all", "seen", "unseen"] = "all"
    objects: tuple[int, int] = (1, 3)
    seed: int = 0

    @property
    def blocks(self) -> Sequence[int]:
        return [self.count]

    def key(self, index: int) -> str:
        return f"scene-{self.seed}-{index:06d}"

    def read(self, index: int) -> tuple[Image.Image, Sequence[str]]:
        scene = self.draw(index)
        return Image.fromarray(scene.image), scene.captions

    def samples(self) -> list[SceneSample]:
        return [SceneSample(self, index) for index in range(self.count)]

    def manifest(self) -> dict[str, Any]:
        return {"kind": "scenes", "samples": self.count, "size": self.size, "split": self.split, "seed": self.seed}

    def draw(self, index: int) -> Scene:
        """Scene number `index`; later shapes lie on earlier ones."""
        random = np.random.default_rng([self.seed, index, self.size])
        ground = int(random.integers(len(GROUNDS)))
        image = _textured(GROUNDS[ground], self.size, random, _GREYS)
        labels = np.full((self.size, self.size), _OBJECTS + ground, np.uint8)
        for chosen in self._classes(random):
            mask, colour = self._shape(SHAPES[chosen % len(SHAPES)], random), _RGB[chosen // len(SHAPES)]
            tones = np.stack([colour, colour * 0.75])
            image[mask] = _textured(GROUNDS[int(random.integers(len(GROUNDS)))], self.size, random, tones)[mask]
            labels[mask] = chosen
        noise = random.normal(0, 4, image.shape)
        return Scene((image + noise).round().clip(0, 255).astype(np.uint8), labels, _captions(labels, random))

    def _classes(self, random: np.random.Generator) -> list[int]:
        """The shapes' classes, each once, in the order they are drawn."""
        unseen = unseen_classes()
        every = [number for number in range(_OBJECTS) if self.split == "all" or number not in unseen]
        number = int(random.integers(self.objects[0], self.objects[1] + 1))
        chosen = [every[at] for at in random.permutation(len(every))[:number]]
        if self.split == "unseen":
            chosen[-1] = unseen[int(random.integers(len(unseen)))]
        return chosen

    def _shape(self, shape: str, random: np.random.Generator) -> NDArray[np.bool_]:
        """The pixels [size, size] whose centre lies in a shape of random place, size and turn."""
        radius = random.uniform(0.16, 0.3) * self.size
        centre = random.uniform(radius, self.size - radius, 2)
        angle = random.uniform(-0.4, 0.4)
        y, x = (axis + 0.5 - at for axis, at in zip(np.mgrid[: self.size, : self.size], centre, strict=True))
        turned_x, turned_y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        return inside(shape, turned_x / radius, turned_y / radius)


@dataclass(frozen=True)
class SceneSample:
    """One scene as a picture with a label map."""

    scenes: Scenes
    index: int

    @property
    def key(self) -> str:
        return self.scenes.key(self.index)

    def image(self) -> Pixels:
        return self.scenes.draw(self.index).image

    def truth(self) -> Pixels:
        return self.scenes.draw(self.index).labels


def inside(shape: str, x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    """Which points lie in the shape of radius 1 around the origin; y points down."""
    if shape == "circle":
        return np.hypot(x, y) <= 1
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.775) <= 0.225
    if shape == "triangle":
        return (y <= 0.6) & (2 * np.abs(x) <= y + 1)
    across, along = np.abs(x), np.abs(y)
    if shape == "square":
        return np.maximum(across, along) <= 0.8
    if shape == "diamond":
        return across / 0.7 + along <= 1
    assert shape == "cross", shape
    return (np.minimum(across, along) <= 0.3) & (np.maximum(across, along) <= 1)


def _textured(texture: str, size: int, random: np.random.Generator, tones: NDArray[Any]) -> NDArray[np.float64]:
    """A field [size, size, 3] of the two tones [2, 3] in a texture of random period and phase."""
    y, x = np.mgrid[:size, :size] + random.integers(0, size, 2)[:, None, None]
    period = max(2, round(random.uniform(0.06, 0.12) * size))
    patterns = {
        "plain": np.zeros((size, size), bool),
        "striped": (x + y) // period % 2 == 1,
        "checked": (x // period + y // period) % 2 == 1,
        "dotted": np.hypot(x % (2 * period) - period, y % (2 * period) - period) < 0.6 * period,
    }
    return np.asarray(tones[patterns[texture].astype(int)], np.float64)


def _captions(labels: Pixels, random: np.random.Generator) -> tuple[str, ...]:
    """A sentence in each form, naming what can still be seen (one pixel in a hundred, or more)."""
    names = class_names()
    counts = np.bincount(labels.ravel(), minlength=len(names))
    visible = np.flatnonzero(counts[:_OBJECTS] >= labels.size / 100)
    shapes = [f"a {names[visible[at]]}" for at in random.permutation(len(visible))]
    ground = names[_OBJECTS + int(counts[_OBJECTS:].argmax())]
    listed = " and ".join([", ".join(shapes[:-1]), shapes[-1]] if len(shapes) > 1 else shapes)
    content = f"{listed} on {ground}" if shapes else ground
    return tuple(form.format(content) for form in _FORMS)
