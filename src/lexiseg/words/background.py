"""Names everything else in a photograph, for `background="auto"`.

They are those of SCLIP (Wang et al., ECCV 2024) and its successors for VOC-21 and COCO-Object. A person who asks for a
street does not want its pixels to go to "road", so a word gives way to the classes that are asked for, and to words
for the same thing or a part of it.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["AUTO", "AUTO_BACKGROUND", "auto_background"]

AUTO = "auto"

GIVES_WAY = {  # to classes with these words, beside its own
    "sky": "heaven",
    "wall": "",
    "tree": "forest, wood, woods, jungle, palm, bush, plant, vegetation",
    "wood": "tree, forest, timber, log, plank",
    "grass": "lawn, meadow, field, pasture, vegetation, plant",
    "road": "street, highway, lane, path, track, asphalt, runway, ground",
    "sea": "water, ocean, lake, river, pond",
    "river": "water, stream, lake, sea, ocean, pond",
    "mountain": "hill, mountain range, cliff, volcano",
    "sands": "sand, beach, desert, dune",
    "desk": "table, furniture",
    "bed": "furniture",
    "building": "house, skyscraper, church, tower, castle, cottage, hut, barn, shop, home, facade",
    "cloud": "sky",
    "lamp": "light, lantern, chandelier, lamppost, streetlight",
    "door": "doorway, gate",
    "window": "glass, pane",
    "wardrobe": "cupboard, cabinet, closet, furniture",
    "ceiling": "",
    "shelf": "bookcase, bookshelf, cupboard, furniture",
    "curtain": "drape, blind",
    "stair": "staircase, step, stairway",
    "floor": "ground, carpet, rug",
    "hill": "mountain, cliff, dune",
    "rail": "railing, railway, railroad, track, fence, banister",
    "fence": "railing, hedge, rail, banister",
}
AUTO_BACKGROUND = tuple(GIVES_WAY)


def auto_background(words: Iterable[str]) -> tuple[str, ...]:
    """The words of the list that do not compete with `words`, those of the classes."""
    asked = {form for word in words for form in _forms(word)}
    return tuple(
        word for word, others in GIVES_WAY.items() if not asked & {*_forms(word), *(filter(None, others.split(", ")))}
    )


def _forms(word: str) -> set[str]:
    """A word and what a phrase ends in, in the singular too: "brick walls" is about a wall."""
    parts = word.lower().split()
    tails = [" ".join(parts[start:]) for start in range(len(parts))]
    return {form for tail in tails for form in (tail, tail.removesuffix("s"), tail.removesuffix("es"))}
