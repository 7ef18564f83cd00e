"""Attributes, kinds and background lists (MaskCLIP's paper, 4.1): "red car", "sports car", and the rest.

    python tools/attributes.py                              two photographs that every installation has
    python tools/attributes.py --data DATA --limit 20       measured, on this project's photographs

A word may be any phrase, since it is only put into a sentence. Whether a model can tell a white car from a red one is
another question, and is measured here:

    kinds        photographs of one kind (sports car, school bus ...) labelled with all kinds of its group: how often
                 the kind with most pixels is right, beside chance
    colours      "red car, white car ..." for every object: whether the colour that takes most of it is the one it has,
                 and whether the phrases together still find the object that the noun alone finds (IoU)
    background   the object alone, asked for with and without words for everything else (IoU)

OpenAI's CLIPs know colours. The embedded model does not: it learned from the names of things.
"""

from __future__ import annotations

import argparse
import colorsys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lexiseg
from lexiseg.data.mini.masked import MaskedPhotograph, read_masked
from lexiseg.data.mini.sheets import read_sheets
from lexiseg.inference.predictor import Predictor

BACKGROUND = "building, ground, grass, tree, sky"  # the paper's web images
COLOURS = ("red", "yellow", "blue", "white", "black")
OBJECTS = (
    "car",
    "flower",
    "bird",
    "cat",
    "dog",
    "chair",
    "book",
    "sign",
    "boat",
    "bicycle",
    "cow",
    "sheep",
    "airplane",
)
KINDS = {
    "car": ("sports car", "limousine", "beach wagon", "convertible", "police van"),
    "bus": ("school bus", "trolleybus"),
    "cat": ("tabby", "Persian cat", "Egyptian cat"),
    "dog": ("golden retriever", "Labrador retriever", "German shepherd", "Chihuahua", "Yorkshire terrier"),
}
SHOWN = {"chelsea.png": "grey cat, orange cat, black cat", "coffee.png": "red cup, white cup, coffee, spoon"}
SMALLEST = 0.03  # share of the photograph that an object must have to be counted

Labels = NDArray[Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with photos-val and masks-train")
    parser.add_argument("--model", default="maskclip/mini")
    parser.add_argument("--limit", type=int, help="photographs of each kind, and photographs with label maps")
    options = parser.parse_args(arguments)
    model = lexiseg.load(options.model)
    if options.data is None:
        show(model)
        return
    for group, (right, chance) in kinds(model, options.data, options.limit).items():
        print(f"kinds of {group}: {100 * right:.0f} % right, {100 * chance:.0f} % by chance")
    photographs = masked(options.data, options.limit)
    right, counted, together, alone = colours(model, photographs)
    print(f"colours: {right} of {counted} right; IoU of all colours together {together:.3f}, of the noun {alone:.3f}")
    with_words, without = background(model, photographs)
    print(f"background: IoU with words for the rest {with_words:.3f}, without {without:.3f}")


def show(model: Predictor) -> None:
    for name, words in SHOWN.items():
        result = model.segment(picture(name), words, background=BACKGROUND)
        areas = ", ".join(f"{word} {100 * area:.1f} %" for word, area in result.areas().items())
        print(f"{name}: {areas}; the rest is background")


def picture(name: str) -> Path:
    """One of the photographs that scikit-image ships."""
    return Path(str(resources.files("skimage"))) / "data" / name


def kinds(model: Predictor, data: Path, limit: int | None = None) -> dict[str, tuple[float, float]]:
    """For each group the share of photographs whose kind is found, and what chance would find."""
    tiles = read_sheets(data / "photos-val")
    found = {}
    for group, words in KINDS.items():
        right = []
        for place, sheet in enumerate(tiles.sheets):
            if sheet.names[0] in words:
                for index in tiles.of_sheet(place)[:limit]:
                    labels = model.segment(tiles.photograph(index), words, scores=False, keep_image=False).labels
                    right.append(words[int(np.bincount(labels.reshape(-1)).argmax())] == sheet.names[0])
        found[group] = float(np.mean(right)), 1 / len(words)
    return found


def masked(data: Path, limit: int | None = None) -> list[tuple[MaskedPhotograph, str, NDArray[np.bool_]]]:
    """Photographs, an object in each, and its mask; of those that are kept out of training."""
    found = read_masked(data / "masks-train", part="held_out", shards=("msrc",), occurring=True)
    names = [kind.names[0] for kind in found.classes]
    return [
        (photograph, noun, photograph.truth() == names.index(noun))
        for photograph in found.photographs[:limit]
        for noun in OBJECTS
        if (photograph.truth() == names.index(noun)).mean() >= SMALLEST
    ]


Masked = Sequence[tuple[MaskedPhotograph, str, NDArray[np.bool_]]]


def colours(model: Predictor, photographs: Masked) -> tuple[int, int, float, float]:
    """Right colours, objects that have a colour with a name, and the mean IoU of phrases together and of the noun."""
    right, counted, together, alone = 0, 0, [], []
    for photograph, noun, mask in photographs:
        seen = model.embed(photograph.image())
        phrases = model.classify(seen, [f"{colour} {noun}" for colour in COLOURS], background=BACKGROUND).labels
        together.append(iou(phrases != 255, mask))
        alone.append(iou(model.classify(seen, [noun], background=BACKGROUND).labels != 255, mask))
        colour, inside = colour_of(photograph.image()[mask]), phrases[mask & (phrases != 255)]
        if colour is not None and len(inside):
            counted += 1
            right += COLOURS[int(np.bincount(inside).argmax())] == colour
    return right, counted, float(np.mean(together)), float(np.mean(alone))


def background(model: Predictor, photographs: Masked) -> tuple[float, float]:
    """Mean IoU of an object with words for the rest, and without: then it takes the whole picture."""
    found: list[tuple[float, float]] = []
    for photograph, noun, mask in photographs:
        seen = model.embed(photograph.image())
        labels = (model.classify(seen, [noun], background=words).labels for words in (BACKGROUND, ""))
        found.append(tuple(iou(each != 255, mask) for each in labels))  # type: ignore[arg-type]
    with_words, without = np.mean(found, axis=0)
    return float(with_words), float(without)


def iou(one: Labels, other: Labels) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def colour_of(pixels: NDArray[np.uint8]) -> str | None:
    """The name of the median colour of pixels [N, 3]; None for those in between."""
    red, green, blue = np.median(pixels, axis=0) / 255
    hue, saturation, value = colorsys.rgb_to_hsv(float(red), float(green), float(blue))
    return next(_names(360 * hue, saturation, value), None)


def _names(degrees: float, saturation: float, value: float) -> Iterator[str]:
    if value < 0.25:
        yield "black"
    elif saturation < 0.2:
        if value > 0.7:
            yield "white"
    else:
        spans = {"red": (0, 20), "yellow": (40, 70), "blue": (190, 260)}
        yield from (name for name, (first, last) in spans.items() if first <= degrees < last)
        if degrees >= 340:
            yield "red"


if __name__ == "__main__":
    main()
