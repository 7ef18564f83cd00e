"""Measures how often photographs get the note that common words fit better than the user's.

    python tools/absent_words.py --data DATA --model maskclip/mini --limit 140

A photograph is asked about the classes that its label map shows, about its largest class beside two that it does not
show, and about one, two and four that it does not show. Printed for each: the share of photographs on which common
words win at least so much of the picture, which is when the note is given (`lexiseg.inference.common_words`). Absent
classes are drawn among those that no common word gives way to.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import lexiseg
from lexiseg.benchmarks import _benchmark
from lexiseg.inference import common_words
from lexiseg.inference.predictor import Predictor
from lexiseg.words.background import AUTO_BACKGROUND, auto_background

ABSENT = (1, 2, 4)
LIMITS = (0.7, 0.8, common_words.MOST, 0.95)


def questions(truth: np.ndarray, names: Sequence[str], draw: random.Random) -> Iterator[tuple[str, list[str]]]:
    """What is asked about one photograph, by the name of its row."""
    areas = {int(label): int(pixels) for label, pixels in zip(*np.unique(truth, return_counts=True), strict=True)}
    here = sorted(label for label in areas if label < len(names))
    absent = [
        name for place, name in enumerate(names) if place not in here and auto_background([name]) == AUTO_BACKGROUND
    ]
    yield "its own", [names[place] for place in here]
    yield (
        "its largest and 2 absent",
        [names[max(here, key=areas.__getitem__)], *draw.sample(absent, min(2, len(absent)))],
    )
    for count in ABSENT:
        yield f"{count} absent", draw.sample(absent, min(count, len(absent)))


def measure(model: Predictor, data: Path, limit: int | None) -> dict[str, list[float]]:
    """The fraction of each photograph that common words win, by question."""
    assert model.familiar is not None, "the model does not say which words it knows, so it gives no such note"
    opened = _benchmark.open("folder", data)
    names, draw = list(opened.vocabulary.names), random.Random(0)
    found: dict[str, list[float]] = {}
    for sample in opened.samples[:: max(1, len(opened.samples) // (limit or len(opened.samples)))]:
        image, truth = sample.read()
        embedded = model.embed(image, keep_image=False)
        for row, words in questions(truth, names, draw):
            share = common_words.fitting_better(
                embedded, lexiseg.Vocabulary(words), model.segmenter, model.embed_text, model.familiar
            )
            found.setdefault(row, []).append(share)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="images/, masks/ and classes.json, or tar shards")
    parser.add_argument("--model", default="maskclip/mini")
    parser.add_argument("--limit", type=int, help="about how many photographs, spread over all")
    given = parser.parse_args(arguments)
    found = measure(lexiseg.load(given.model), given.data, given.limit)
    print(f"{len(next(iter(found.values())))} photographs, share of them at or above", *LIMITS)
    for row, shares in found.items():
        print(f"  {row:26}", *(f"{np.mean(np.array(shares) >= limit):6.1%}" for limit in LIMITS))


if __name__ == "__main__":
    main()
