"""Finds out which nouns an embedded CLIP knows, and writes familiar.json beside its weights (`encoders.familiar`).

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python tools/familiar_words.py --weights runs/joined --words tools/training/places.safetensors \\
        --wordnet wordnet/usr/share/wordnet

--words is the file of `lexiseg.data.mini.meanings.prepare`, whose vectors are those of a sentence encoder. A noun
counts when the encoder finds a concept within a cosine of --near. The model takes it for that concept when the
concept that is nearest to it by the model's own text tower is one that the encoder finds so near, or related to the
nearest one. Without --words, the nouns are those of the familiar.json that is there.

Sentence encoders and small text towers go by letters too: to both a lady is a ladybug. So WordNet must find that the
noun and the concept are alike, which costs a few words that the model takes rightly, such as lambs for sheep.

Beside the file it prints how well such a list, and how well the model's own cosines, tell words apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from card_words import BY_HAND
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.stats import rankdata
from wordnet import SENSES, Nouns, synsets_of

from lexiseg.data.mini.concepts import gather_concepts
from lexiseg.data.mini.meanings import Words, read_words
from lexiseg.encoders.clip import Clip
from lexiseg.encoders.familiar import NOUNS, Familiar, read_familiar, write_familiar
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.weights import find, read_json
from lexiseg.errors import DataError

NEAR = 0.4
ALIKE = 0.6  # likeness in WordNet that a noun and its concept need
# nothing that a photograph shows
FAR = re.findall(
    r"\w+",
    "parliament mortgage neutrino sonata democracy theorem inflation justice grammar photosynthesis Monday jealousy "
    "arithmetic bankruptcy treaty philosophy molecule voltage adverb lawsuit pneumonia algorithm patriotism semester "
    "rumor gravity sociology quarantine symphony constitution pension virtue chromosome hydrogen century dialect "
    "diplomacy hypothesis insomnia logarithm metaphor monarchy nostalgia penicillin polynomial referendum software "
    "tariff vaccine vowel warranty zodiac opera election genome entropy",
)

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Meanings:
    """concepts: where the sentence encoder has them [C, D]; words: what else was prepared."""

    words: Words
    concepts: Vectors

    @classmethod
    def read(cls, path: Path) -> Meanings:
        words = read_words(path)
        with safe_open(path, "pt") as file:
            return cls(words, file.get_tensor("concepts").numpy().astype(np.float32))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="asset:mini-clip", help="the folder of an embedded CLIP")
    parser.add_argument("--words", type=Path)
    parser.add_argument("--wordnet", type=Path, required=True, help="the folder with data.noun and index.noun")
    parser.add_argument("--near", type=float, default=NEAR)
    options = parser.parse_args(arguments)
    folder, clip = find(options.weights), Clip.load(options.weights)
    names = read_json(folder / "concepts.json")["names"]
    if options.words is None:
        nouns = [noun for own in read_json(folder / NOUNS)["taken"].values() for noun in own]
    else:
        found = sort_nouns(clip, names, Meanings.read(options.words), near=options.near)
        nouns = [noun for own in found.values() for noun in own]
    taken = alike(clip, names, nouns, Nouns.read(options.wordnet))
    write_familiar(folder, taken, text_digest=clip.text_digest())
    familiar = read_familiar(folder)
    assert familiar is not None
    print(json.dumps(separation(clip, names, familiar), indent=1))


def sort_nouns(clip: Any, names: Sequence[Sequence[str]], meanings: Meanings, *, near: float) -> dict[str, list[str]]:
    """Nouns that the model takes for what they mean, by the nearest concept's first name.

    Raises `DataError` where the model and the prepared words have no concept in common.
    """
    place = {one[0].lower(): at for at, one in reversed(list(enumerate(meanings.words.concepts.names)))}
    shared = [(one[0], place[one[0].lower()]) for one in names if one[0].lower() in place]
    if not shared:
        raise DataError("the prepared words are of other concepts than the model's; prepare them for its names")
    known, at = [name for name, _ in shared], np.array([place for _, place in shared])
    cosines = meanings.words.vectors.astype(np.float32) @ meanings.concepts[at].T  # [N, C]
    close = np.flatnonzero(cosines.max(axis=1) >= near)
    nouns, cosines = [meanings.words.words[one] for one in close], cosines[close]
    nearest, own = cosines.argmax(axis=1), _embed(clip, nouns) @ _embed(clip, known).T
    chosen = own.argmax(axis=1)
    right = cosines[np.arange(len(nouns)), chosen] >= near
    right |= meanings.words.concepts.related[at[nearest], at[chosen]]
    taken: dict[str, list[str]] = {}
    for noun, to, found in zip(nouns, nearest, right, strict=True):
        if found:
            taken.setdefault(known[to], []).append(noun)
    return taken


def alike(clip: Any, names: Sequence[Sequence[str]], words: Sequence[str], nouns: Nouns) -> dict[str, list[str]]:
    """The words that mean something like the concept at which the model puts them, by its first name."""
    first = [one[0] for one in names]
    meant = [synsets_of(nouns, one) for one in names]
    chosen = (_embed(clip, words) @ _embed(clip, first).T).argmax(axis=1)
    found: dict[str, list[str]] = {}
    for word, place in zip(words, chosen, strict=True):
        pairs = itertools.product(nouns.senses.get(word, ())[:SENSES], meant[place])
        if any(nouns.likeness(one, other) >= ALIKE for one, other in pairs):
            found.setdefault(first[place], []).append(word)
    return found


def separation(clip: Any, names: Sequence[Sequence[str]], familiar: Familiar) -> dict[str, Any]:
    """Everyday words beside words for nothing visible: areas under the curve of two rules, and what the list says.

    The everyday ones are told apart by whether the model puts them where they belong.
    """
    concepts = gather_concepts(names)
    first = [one[0] for one in concepts.names]
    vectors = _embed(clip, first)
    pairs = [(word, name) for name, words in BY_HAND.items() for word in words.split(", ")]
    pairs = [(word, name) for word, name in pairs if word not in familiar.names and name in first]
    near, meant = [word for word, _ in pairs], [first.index(name) for _, name in pairs]
    own = _embed(clip, near) @ vectors.T
    chosen = own.argmax(axis=1)
    right = concepts.related[meant, chosen] | (chosen == meant)
    best = np.concatenate([own.max(axis=1), (_embed(clip, FAR) @ vectors.T).max(axis=1)])
    listed = np.array([familiar.knows(word) for word in [*near, *FAR]], float)
    answers = np.concatenate([right, np.zeros(len(FAR), bool)])
    visible = np.arange(len(best)) < len(near)
    return {
        "nouns taken": len(familiar.taken or ()),
        "everyday words": len(near),
        "of them right": int(right.sum()),
        "far words": len(FAR),
        "visible or not, by the list": _area(listed, visible),
        "visible or not, by cosine": _area(best, visible),
        "right or not, by the list": _area(listed, answers),
        "right or not, by cosine": _area(best, answers),
        "right and known": int((listed[answers] > 0).sum()),
        "wrong or far, and warned of": int((listed[~answers] == 0).sum()),
        "of": int((~answers).sum()),
    }


def _embed(clip: Any, words: Sequence[str]) -> Vectors:
    return np.asarray(clip.embed_words(list(words), Prompts.open("single")).numpy())


def _area(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Under the receiver operating characteristic: how often a positive scores above a negative, ties counted half."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return round(float((ranks - count * (count + 1) / 2) / (count * (len(positive) - count))), 3)


if __name__ == "__main__":
    main()
