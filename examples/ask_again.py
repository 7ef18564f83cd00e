"""Looks at a photograph once and asks about several lists of words.

python examples/ask_again.py street.jpg "road, car, sky" "vehicle, building, plant"
"""

from __future__ import annotations

import sys

import lexiseg


def main(photograph: str, *lists: str) -> None:
    model = lexiseg.load("maskclip/mini")
    seen = model.embed(photograph)  # the slow part, once
    for words in lists:
        print(model.classify(seen, words))


if __name__ == "__main__":
    main(*sys.argv[1:])
