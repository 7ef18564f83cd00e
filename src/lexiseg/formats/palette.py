"""Gives each word a colour, the same in every picture.

It is unlike the colours of the other words.

TABLE was found once by a search and is data here. Among the sRGB colours on a grid of step 16 whose OKLab lightness is
0.45-0.93 and whose chroma is 0.065-0.22, a greedy farthest-point search from random starts, improved by exchanging one
colour of a closest pair at a time, kept the 24 colours whose smallest distance is largest. The distance of two colours
is their CIEDE2000 difference (with kL = 1.2, since a photograph changes lightness most), or, where that is smaller, 2.8
times the difference as eyes without red or green cones see them, or 4 times as eyes without blue cones do, after
Machado, Oliveira & Fernandes (2009). The grey of UNLABELLED counts as one of them. Any two differ by 18 as they are,
and by 5.4 in the other renderings. The first seven were kept near what people expect of the words in EXPECTED,
and 26 apart.

A word starts at a row that its hash names: it has the same colour in every vocabulary, and readers learn it. The words
of EXPECTED start elsewhere: pink grass under a green sky would have to be looked up in the legend.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["ALIKE", "EXPECTED", "TABLE", "UNLABELLED", "colours", "differences"]

Colours = npt.NDArray[np.uint8]

UNLABELLED = (112, 112, 112)  # sRGB 0-255; pixels that are none of the classes
TABLE = np.array(  # sRGB 0-255 [24, 3]
    [
        (136, 168, 40), (56, 104, 72), (56, 184, 248), (8, 104, 152), (120, 72, 40), (152, 120, 168),
        (248, 104, 104), (200, 8, 72), (232, 184, 24), (168, 248, 248), (152, 8, 120), (248, 184, 184),
        (216, 248, 8), (88, 152, 152), (104, 72, 216), (104, 136, 248), (248, 152, 88), (152, 120, 56),
        (216, 232, 184), (248, 136, 200), (216, 200, 248), (216, 72, 8), (8, 184, 136), (88, 248, 120),
    ],
    dtype=np.uint8,
)  # fmt: skip
TABLE.flags.writeable = False
EXPECTED = (  # words that start at the first rows of TABLE
    ("grass", "lawn", "meadow"),  # light green
    ("tree", "bush", "forest", "plant"),  # dark green
    ("sky",),  # light blue
    ("water", "sea", "river", "lake"),  # dark blue
    ("earth", "soil", "ground", "dirt"),  # brown
    ("road", "street", "asphalt"),  # violet grey
    ("person", "man", "woman", "child"),  # light red
)
STARTS = {word: row for row, words in enumerate(EXPECTED) for word in words}
ALIKE = 24  # CIEDE2000; words of one vocabulary differ by as much while a free row does, six of them in any case


def colours(words: Sequence[str], first: Sequence[int] = ()) -> Colours:
    """A colour for each word [C, 3], sRGB 0-255, all different; upper and lower case are one word.

    A word starts at a row of TABLE of its own. Where that looks like the colour of a word before it, the word moves to
    the next row that does not; where all do, to the row that differs most. Words of EXPECTED come before the others.

    first: places of words that come before the others where there are more words than TABLE has rows. The words for
        which no row is left get saturated colours straight from their hashes, which may look alike.
    """
    few, early = len(words) <= len(TABLE), set(first)
    order = sorted(
        range(len(words)), key=lambda place: (not few and place not in early, _expected(words[place]) is None)
    )
    chosen = np.empty((len(words), 3), np.uint8)
    taken: list[int] = []
    used = {tuple(colour) for colour in TABLE.tolist()}
    for place in order:
        if len(taken) < len(TABLE):
            taken.append(_row(words[place], taken))
            chosen[place] = TABLE[taken[-1]]
        else:
            chosen[place] = colour = next(colour for colour in _derived(words[place]) if colour not in used)
            used.add(colour)
    return chosen


def _row(word: str, taken: list[int]) -> int:
    """The first free row that looks like none of those taken, or the one that differs most from them."""
    free = [row for row in _rows(word) if row not in taken]
    if not taken:
        return free[0]
    nearest = differences()[np.ix_(free, taken)].min(1).clip(max=ALIKE)
    return free[int(nearest.argmax())]  # the first of equals


def _rows(word: str) -> Iterator[int]:
    """All rows of TABLE: the word's own, then those that no word of EXPECTED starts at, then the others."""
    own, hashed = _expected(word), int.from_bytes(_hash(word, 0), "big")
    if own is not None:
        yield own
    for rows in (range(len(EXPECTED), len(TABLE)), range(len(EXPECTED))):
        yield from (row for step in range(len(rows)) if (row := rows[(hashed + step) % len(rows)]) != own)


def _expected(word: str) -> int | None:
    """The row at which EXPECTED starts this word: "Palm Trees" is a tree."""
    last = word.casefold().rpartition(" ")[2]
    return STARTS.get(last, STARTS.get(last.removesuffix("s")))


@functools.cache
def differences() -> npt.NDArray[np.float64]:
    """CIEDE2000 between the rows of TABLE [24, 24]."""
    from skimage.color import deltaE_ciede2000, rgb2lab  # takes longer to import than all else here

    lab = rgb2lab(TABLE)
    return np.asarray(deltaE_ciede2000(lab[:, None], lab[None]))


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
