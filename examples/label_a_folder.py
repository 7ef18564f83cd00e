"""Labels every photograph of a folder and writes a table of areas.

python examples/label_a_folder.py photos/ "road, car, person|pedestrian, sky" areas.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import lexiseg
from lexiseg.data.finding import find


def main(folder: str, words: str, table: str) -> None:
    model = lexiseg.load("maskclip/mini")
    vocabulary = lexiseg.Vocabulary(words)
    photographs = find([folder]).photographs
    with Path(table).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["photograph", *vocabulary.names, "unlabelled"])
        for path, result in zip(photographs, model.segment_many(photographs, vocabulary, scores=False), strict=True):
            rows.writerow([path, *(f"{area:.4f}" for area in result.areas().values()), f"{result.unlabelled_area:.4f}"])


if __name__ == "__main__":
    main(*sys.argv[1:4])
