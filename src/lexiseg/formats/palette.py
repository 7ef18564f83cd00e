"""A colour for each word: the same word has the same colour everywhere, for colour-blind eyes too.

TABLE was found once by a search and is data here. Among the sRGB colours on a grid of step 8 whose OKLab lightness is
0.45-0.93 and whose chroma is at least 0.07, a greedy farthest-point search from random starts, improved by exchanging
one colour of a closest pair at a time, kept the 16 colours whose smallest distance is largest, and then 16 more. The
distance of two colours is the smallest of their OKLab distances in seven renderings: as they are (divided by 1.8, since
most eyes see them so); without red, green or blue cones after Machado, Oliveira & Fernandes (2009); without red or
green cones after Viénot, Brettel & Mollon (1999); without blue cones after Brettel, Viénot & Mollon (1997). Any two of
the first 16 are 0.147 apart as they are and 0.082 in the other renderings; any two of all 32, 0.087 and 0.047. The grey
of UNLABELLED counts as one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["TABLE", "UNLABELLED", "colours"]

UNLABELLED = (112, 112, 112)  # sRGB 0-255; pixels that are none of the classes
HOMES = 16  # the first rows of TABLE, where a word looks first
TABLE = np.array(  # sRGB 0-255 [32, 3]
    [
        (8, 240, 160), (80, 176, 255), (216, 192, 240), (136, 0, 160), (192, 136, 8), (160, 0, 80),
        (72, 0, 232), (144, 184, 144), (168, 104, 255), (240, 240, 0), (255, 184, 80), (176, 248, 232),
        (240, 0, 144), (48, 112, 200), (255, 112, 216), (192, 64, 8), (40, 152, 176), (240, 104, 104),
        (176, 16, 248), (104, 72, 112), (184, 176, 8), (40, 120, 8), (192, 48, 192), (176, 8, 136),
        (144, 216, 200), (16, 224, 72), (144, 80, 80), (104, 160, 104), (144, 128, 64), (104, 40, 200),
        (120, 120, 224), (232, 152, 184),
    ],
    dtype=np.uint8,
)  # fmt: skip
TABLE.flags.writeable = False


def colours(words: Sequence[str]) -> npt.NDArray[np.uint8]:
    """A colour for each word [C, 3], sRGB 0-255, all different; upper and lower case are one word.

    A word's hash names its place in TABLE. Where an earlier word sits there already it takes a free place further down,
    so words added at the end never change the colours of those before them. Once TABLE is full a word gets a saturated
    colour straight from its hash, which is its own but may look like another.
    """
    chosen = np.empty((len(words), 3), np.uint8)
    free = set(range(len(TABLE)))
    used = {tuple(colour) for colour in TABLE.tolist()}
    for row, word in enumerate(words):
        if free:
            place = next(place for place in _places(word) if place in free)
            free.remove(place)
            chosen[row] = TABLE[place]
        else:
            chosen[row] = colour = next(colour for colour in _derived(word) if colour not in used)
            used.add(colour)
    return chosen


def _places(word: str) -> Iterator[int]:
    """All rows of TABLE: the word's home, then the rows that are nobody's home, then the homes of other words."""
    start, home = divmod(int.from_bytes(_hash(word, 0), "big"), HOMES)
    spare = len(TABLE) - HOMES
    yield home
    yield from (HOMES + (start + step) % spare for step in range(spare))
    yield from ((home + step) % HOMES for step in range(1, HOMES))


def _derived(word: str) -> Iterator[tuple[int, ...]]:
    """Saturated and not too dark colours without end, the same for the same word."""
    attempt = 0
    while True:
        attempt += 1
        rgb = tuple(_hash(word, attempt)[:3])
        if max(rgb) >= 128 and max(rgb) - min(rgb) >= 64:
            yield rgb


def _hash(word: str, attempt: int) -> bytes:
    return hashlib.blake2b(f"{attempt} {word.casefold()}".encode(), digest_size=8).digest()
