"""Sheets of photographs with what a model says of them, successes and failures alike; a part of model_card.py."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lexiseg import files
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.cli.demo import photograph
from lexiseg.inference.predictor import Predictor
from lexiseg.segmentation import Segmentation

__all__ = ["demos", "twelve"]

MOST_BYTES = 300_000  # of a sheet
COUNT = 12
COLUMNS = 3
WIDTH, HEIGHT = 256, 192  # of each photograph and each label map on the sheet, at most, pixels
TEXT = 13  # pixels
SAID = 0.03  # classes with less of the picture are not named under it

# photographs that scikit-image ships, and what somebody might ask for who sees them, right and wrong words
DEMOS = {
    "chelsea.png": ("cat", "dog", "blanket", "grass", "couch", "bird", "wall", "person"),
    "coffee.png": ("cup", "spoon", "table", "plate", "book", "grass", "person", "bowl"),
    "astronaut.png": ("person", "flag", "airplane", "sky", "wall", "tree", "dog", "car"),
    "motorcycle_left.png": ("motorcycle", "bicycle", "car", "floor", "wall", "window", "person", "dog"),
}


@dataclass(frozen=True, eq=False)
class Cell:
    """A photograph of the sheet, what was said of it, and a line under it."""

    image: Image.Image
    labelled: Image.Image
    line: str
    said: tuple[tuple[str, tuple[int, ...]], ...]  # class and its colour, sRGB 0-255


def twelve(predictor: Predictor, opened: Opened, path: Path) -> dict[str, Any]:
    """Writes a sheet of every n-th photograph of a benchmark, n being the twelfth part of how many there are.

    Returns the photographs' keys, the accuracy of each (fraction 0-1), the classes on them and those that were said.
    """
    step = max(1, len(opened.samples) // COUNT)
    cells, rows = [], []
    for sample in list(opened.samples)[::step][:COUNT]:
        image, truth = sample.read()
        found = predictor.segment(image, opened.vocabulary)
        known = truth != opened.ignore
        right = float((found.labels == truth)[known].mean()) if known.any() else float("nan")
        present = [opened.names[at] for at in np.unique(truth[known])]
        cells.append(_cell(image, found, f"{100 * right:.0f} % right. On it: {', '.join(present)}"))
        rows.append(
            {"key": sample.key, "accuracy": right, "on it": present, "said": [name for name, _ in cells[-1].said]}
        )
    _write(path, cells)
    return {"rule": f"every {step}th of {len(opened.samples)}", "words": len(opened.vocabulary), "photographs": rows}


def demos(predictor: Predictor, path: Path) -> dict[str, Any]:
    """Writes a sheet of the bundled photographs, each with words of its own; returns the areas of the words."""
    cells, rows = [], {}
    for name, words in DEMOS.items():
        image = np.asarray(Image.open(photograph(name)).convert("RGB"))
        found = predictor.segment(image, list(words))
        cells.append(_cell(image, found, f"asked: {', '.join(words)}"))
        rows[name] = found.areas()
    _write(path, cells, columns=2)
    return {"areas": rows}


def _cell(image: Any, found: Segmentation, line: str) -> Cell:
    colour = dict(zip(found.names, map(tuple, found.colours.tolist()), strict=True))
    said = tuple((name, colour[name]) for name in found.found if found.area(name) >= SAID)
    scale = min(WIDTH / image.shape[1], HEIGHT / image.shape[0])
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    labelled = found.overlay(image, legend=False, words=False).resize(size, Image.Resampling.BICUBIC)
    return Cell(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), labelled, line, said)


def _write(path: Path, cells: Sequence[Cell], *, columns: int = COLUMNS) -> None:
    """Photographs beside their label maps, as a JPEG that keeps below `MOST_BYTES`."""
    font = ImageFont.load_default(TEXT)
    line, gap = round(1.5 * TEXT), TEXT
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.image.height for cell in row) + 2 * line + gap for row in rows]
    sheet = Image.new("RGB", (columns * (2 * WIDTH + gap) + gap, sum(heights) + gap), "white")
    draw, top = ImageDraw.Draw(sheet), gap
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = gap + column * (2 * WIDTH + gap)
            sheet.paste(cell.image, (left, top))
            sheet.paste(cell.labelled, (left + cell.image.width, top))
            below = top + cell.image.height + line // 2
            draw.text((left, below), _cut(cell.line, font), "black", font, anchor="lm")
            _legend(draw, (left, below + line), cell.said, font)
        top += height
    files.write_bytes(path, _jpeg(sheet))


def _legend(draw: Any, place: tuple[int, int], said: Sequence[tuple[str, tuple[int, ...]]], font: Any) -> None:
    x, y = place
    for name, colour in said:
        draw.rectangle((x, y - TEXT // 2, x + TEXT, y + TEXT // 2), fill=colour)
        draw.text((x + 1.3 * TEXT, y), name, "black", font, anchor="lm")
        x += round(2.2 * TEXT + font.getlength(name))


def _cut(line: str, font: Any) -> str:
    while font.getlength(line) > 2 * WIDTH:
        line = line.rstrip("…")[:-1] + "…"
    return line


def _jpeg(sheet: Image.Image) -> bytes:
    for quality in range(85, 20, -5):
        data = io.BytesIO()
        sheet.save(data, "JPEG", quality=quality, optimize=True)
        if len(data.getvalue()) <= MOST_BYTES:
            break
    return data.getvalue()
