"""Finds a word of like meaning that an embedded CLIP knows for nouns that it may not know, and writes hints.json.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python tools/familiar_hints.py --wordnet wordnet/usr/share/wordnet --merges bpe_simple_vocab_16e6.txt.gz

WordNet says which names are synonyms of a noun, name its kind, or are of one kind with it; a sentence encoder chooses
among them, over all senses of the noun, and drops what is far. Neither would do alone: the first sense of "tiger" in
WordNet is a person, and the nearest word to "pedestrian" by the encoder is a pavement. The model's own vectors would
not do at all, for those of words that it has not learned lie anywhere: "donkey" is nearest to "keyboard".

Nouns are those that CLIP's tokenizer has as one token, which are frequent, and for things that are neither living nor
food all nouns of one word. Those that look like a misspelt name, and are not, are listed under NO_NAME.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from wordnet import SENSES, Nouns, name_of_each

from lexiseg import files
from lexiseg.data.mini.meanings import sentence_vectors
from lexiseg.encoders.familiar import HINTS, NO_NAME, Familiar
from lexiseg.encoders.weights import find, read_json

NEAR, NEAR_OTHERWISE = 0.3, 0.4  # cosine that a kind of a noun's first sense needs, and anything else
FEW_STEPS = 4  # up to a kind, but for living things and food, whose kinds are many steps long
FEW_SIBLINGS = 40  # of one kind; with more of them the kind says little
FINER = 0.15  # what a name that is finer than the noun must be nearer than others
MOST_LETTERS = 20
CLIP_MERGES = 49_152 - 256 - 2  # of the file, which has more

BROAD = frozenset(
    ("person", "people", "man", "woman", "animal", "fish", "bird", "insect", "dog")
    + ("food", "vegetable", "fruit", "tree", "flower", "plant", "bush", "grass")
)

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]


def related(nouns: Nouns, word: str, names: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Names that are related to a noun, with the cosine that each needs and what is taken from it."""
    found: dict[str, tuple[float, float]] = {}
    for sense, key in enumerate(nouns.senses.get(word, ())[:SENSES]):
        if not nouns.synsets[key].visible:
            continue
        need = NEAR if sense == 0 else NEAR_OTHERWISE
        for kind, steps in nouns.kinds(key).items():
            if kind in names and (steps <= FEW_STEPS or names[kind] in BROAD):
                found.setdefault(names[kind], (need, 0.0))
        for finer in nouns.finer.get(key, ()) if sense == 0 else ():
            if finer in names:
                found.setdefault(names[finer], (need, FINER))
        if sense < 2:
            for kind in nouns.synsets[key].kinds:
                siblings = nouns.finer[kind] if len(nouns.finer[kind]) <= FEW_SIBLINGS else ()
                for sibling in siblings:
                    if sibling in names and sibling != key:
                        found.setdefault(names[sibling], (NEAR_OTHERWISE, 0.0))
    return found


def choose(
    nouns: Nouns, names: Sequence[Sequence[str]], frequent: frozenset[str], embed: Embed
) -> dict[str, list[str]]:
    """Nouns by the name that is offered for them."""
    own = {name.lower() for one in names for name in one}
    known = name_of_each(nouns, names)
    near: dict[str, dict[str, tuple[float, float]]] = {}
    for word in sorted(nouns.senses.keys() - own):
        if 2 < len(word) <= MOST_LETTERS and (word in frequent or " " not in word):
            found = related(nouns, word, known)
            if word not in frequent:
                found = {name: rule for name, rule in found.items() if name not in BROAD}
            if found:
                near[word] = found
    offered = sorted(set(known.values()))
    place, targets, vectors = {name: at for at, name in enumerate(offered)}, embed(offered), embed(list(near))
    hints: dict[str, list[str]] = {}
    for (word, found), vector in zip(near.items(), vectors, strict=True):
        cosines = {name: float(targets[place[name]] @ vector) for name in found}
        close = [name for name in found if cosines[name] >= found[name][0]]
        if close:
            hints.setdefault(max(close, key=lambda name: cosines[name] - found[name][1]), []).append(word)
    found = {noun for nouns_of in hints.values() for noun in nouns_of}
    speller = Familiar(frozenset(own), hints={})
    others = [word for word in sorted(nouns.senses.keys() - own - found) if speller.misspelt(word) is not None]
    return {NO_NAME: others, **dict(sorted(hints.items()))}


def frequent_words(merges: Path) -> frozenset[str]:
    """What CLIP's tokenizer has as one token."""
    lines = gzip.decompress(merges.read_bytes()).decode().split("\n")[1 : CLIP_MERGES + 1]
    return frozenset("".join(line.split()).removesuffix("</w>") for line in lines if line.endswith("</w>"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="the folder with data.noun and index.noun")
    parser.add_argument("--merges", type=Path, required=True, help="the merges of CLIP's tokenizer, gzipped")
    parser.add_argument("--weights", default="asset:mini-clip", help="the folder whose concepts.json has the names")
    parser.add_argument("--out", type=Path, default=HINTS)
    options = parser.parse_args(arguments)
    names = read_json(find(options.weights) / "concepts.json")["names"]
    hints = choose(Nouns.read(options.wordnet), names, frequent_words(options.merges), sentence_vectors)
    files.write_text(options.out, json.dumps(hints, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{sum(map(len, hints.values()))} nouns for {len(hints)} names")


if __name__ == "__main__":
    main()
