"""Where an embedded CLIP puts words that it was never shown with photographs; a part of model_card.py.

A word is right where the nearest of the model's concepts is the one it stands for, or one related to that (a synonym,
coarser or finer, see `data.concepts`). Three lists, each without the words that the model has as names:

    by hand        everyday synonyms and finer words
    by WordNet     nouns with one meaning that share it with a concept's name
    hypernyms      coarser words with their members: precision is the share of members among as many nearest concepts
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from lexiseg.data.mini.concepts import Concepts, gather_concepts
from lexiseg.encoders.prompts import Prompts
from lexiseg.encoders.weights import find, read_json
from lexiseg.errors import DataError

__all__ = ["Known", "measure", "read_known", "renamed"]

BY_HAND = {
    "airplane": "airliner, jet, biplane",
    "bird": "sparrow, crow, gull",
    "boat": "canoe, yacht, rowboat",
    "book": "novel",
    "building": "skyscraper",
    "bus": "minibus",
    "cake": "cupcake",
    "camera": "photograph",
    "car": "sedan, taxi",
    "cat": "kitten, tomcat",
    "chair": "armchair, stool",
    "couch": "settee",
    "cow": "calf, bull, heifer",
    "cup": "teacup",
    "dog": "hound, terrier, spaniel",
    "flower": "rose, tulip, daisy",
    "grass": "turf, pasture",
    "horse": "pony, stallion, mare",
    "house": "cottage",
    "mountain": "peak",
    "person": "boy, girl, infant",
    "road": "highway, avenue",
    "rock": "boulder, pebble",
    "sea": "ocean",
    "sheep": "lamb, ewe",
    "sunglasses": "spectacles",
    "train": "locomotive",
    "tree": "foliage, oak",
    "truck": "lorry, pickup",
    "umbrella": "parasol",
    "watch": "wristwatch",
}
HYPERNYMS = {
    "aircraft": "airplane, helicopter",
    "amphibian": "frog, bullfrog, tailed frog, European fire salamander",
    "appliance": "microwave, oven, toaster, refrigerator, hair drier, sewing machine, space heater",
    "arachnid": "spider, black widow, tarantula, scorpion, tick",
    "beverage": "espresso, bravo apple juice, god morgon orange juice, tropicana apple juice, arla standard milk",
    "canine": "dog, dalmatian, Chihuahua, Yorkshire terrier, golden retriever, Labrador retriever, German shepherd, "
    "standard poodle",
    "citrus": "lemon, lime, orange, satsumas, red grapefruit",
    "clothing": "cardigan, fur coat, poncho, kimono, miniskirt, bikini, sock, apron, military uniform, academic gown, "
    "swimming trunks, tie, bow tie",
    "crustacean": "crab, crayfish, lobster, American lobster, spiny lobster",
    "cutlery": "fork, knife, spoon, wooden spoon",
    "dinosaur": "stegosaurus, brontosaurus",
    "feline": "cat, tabby, Persian cat, Egyptian cat, wild cat, lion, leopard, cougar",
    "furniture": "chair, couch, bed, table, dining table, desk, bench, shelf, cabinet, rocking chair, windsor chair",
    "livestock": "cow, sheep, horse, hog, ox",
    "mammal": "cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, lion, leopard, kangaroo, koala, llama, "
    "dolphin, beaver, panda, hog, bison, gazelle, chimpanzee",
    "musical instrument": "accordion, guitar, electric guitar, grand piano, mandolin, saxophone, oboe, organ, "
    "euphonium",
    "primate": "orangutan, chimpanzee, baboon, monkey",
    "reptile": "crocodile, American alligator, boa constrictor, hawksbill turtle",
    "vehicle": "car, bus, truck, train, motorcycle, bicycle, tractor, school bus, sports car, convertible, limousine, "
    "trolleybus, police van, moving van, go-kart, beach wagon",
    "watercraft": "boat, ferry, ketch, schooner, gondola, lifeboat",
}
# words for the classes of MSRC that few would train on, the first that the model does not have as a name is taken
UNSEEN = {
    "airplane": "airliner, jet",
    "bicycle": "mountain bike, tandem",
    "bird": "gull, sparrow",
    "boat": "yacht, canoe",
    "body": "torso, girl",
    "book": "novel, paperback",
    "building": "skyscraper, cottage",
    "car": "sedan, taxi",
    "cat": "kitten, tomcat",
    "chair": "armchair, stool",
    "cow": "heifer, calf",
    "dog": "hound, spaniel",
    "face": "visage, countenance",
    "flower": "tulip, daisy",
    "grass": "turf, pasture",
    "mountain": "peak, summit",
    "road": "highway, avenue",
    "sheep": "ewe, lamb",
    "sign": "placard, signboard",
    "sky": "heavens, firmament",
    "tree": "oak, willow",
    "water": "pond, lake",
}


@dataclass(frozen=True, eq=False)
class Known:
    """What a model has seen. names: of the concepts, lower case; taught: nouns that its text tower learned besides."""

    concepts: Concepts
    names: frozenset[str]
    taught: frozenset[str]


def read_known(weights: str) -> Known:
    """From `concepts.json` and, where there is one, `words.safetensors` of a folder of weights.

    Raises `DataError` for weights that do not say what they were trained on.
    """
    folder = find(weights)
    if not (folder / "concepts.json").is_file():
        raise DataError(f"{folder} has no concepts.json with the names of its concepts; give an embedded CLIP's folder")
    concepts = gather_concepts(read_json(folder / "concepts.json")["names"])
    names = frozenset(name.lower() for one in concepts.names for name in one)
    taught: frozenset[str] = frozenset()
    if (folder / "words.safetensors").is_file():
        with safe_open(folder / "words.safetensors", "pt") as file:
            taught = frozenset(json.loads(file.metadata()["words"]))
    return Known(concepts, names, taught)


def renamed(known: Known, names: list[str]) -> dict[str, str]:
    """A word for each class of `names` that the model was not trained with, for those that `UNSEEN` has one for."""
    found = {}
    for name in names:
        fresh = [word for word in UNSEEN.get(name, "").split(", ") if word and word not in known.names]
        if fresh:
            found[name] = fresh[0]
    return found


def measure(clip: Any, known: Known, nouns: Path, *, prompts: Prompts) -> dict[str, Any]:
    """All three lists, fractions 0-1.

    clip: an `encoders.clip.Clip`. nouns: a list of synsets; see `meanings.prepare`.
    """
    first = [one[0] for one in known.concepts.names]
    concepts = clip.embed_words(first, prompts).numpy()
    place = {name.lower(): at for at, name in reversed(list(enumerate(first)))}

    def ranking(words: list[str]) -> NDArray[np.int64]:
        """Concepts of each word, the nearest first [n, C]."""
        return np.asarray(np.argsort(-(clip.embed_words(words, prompts).numpy() @ concepts.T), axis=1))

    by_hand = [(word, name) for name, words in BY_HAND.items() for word in words.split(", ")]
    found: dict[str, Any] = {}
    for title, pairs in (("by hand", by_hand), ("by WordNet", synonyms(nouns, known.concepts))):
        kept = [(word, place[name.lower()]) for word, name in pairs if name.lower() in place]
        kept = [(word, at) for word, at in kept if word not in known.names]
        if kept:
            found[title] = _right(kept, ranking([word for word, _ in kept]), known, first)
    groups = {word: _members(word, listed, place) for word, listed in HYPERNYMS.items() if word not in known.names}
    groups = {word: members for word, members in groups.items() if len(members) > 1}
    if groups:
        found["hypernyms"] = _precision(groups, ranking(list(groups)), first)
    return found


def synonyms(nouns: Path, concepts: Concepts) -> list[tuple[str, str]]:
    """(noun, first name of a concept) that share a synset and are in no other one."""
    synsets = [line.strip().lower().split(", ") for line in nouns.read_text(encoding="utf-8").splitlines()]
    count = Counter(word for synset in synsets for word in synset)
    first = {one[0].lower() for one in concepts.names}
    found = []
    for synset in synsets:
        single = [word for word in synset if count[word] == 1]
        for name in [word for word in single if word in first][:1]:
            found += [(word, name) for word in single if word != name]
    return found


def _right(pairs: list[tuple[str, int]], ranking: NDArray[np.int64], known: Known, first: list[str]) -> dict[str, Any]:
    related = known.concepts.related | np.eye(len(first), dtype=bool)
    hits = np.stack([related[at][row[:5]] for (_, at), row in zip(pairs, ranking, strict=True)])  # [n, 5]
    taught = np.array([word in known.taught for word, _ in pairs])
    misses = [
        f"{word}: {first[row[0]]}" for (word, _), row, hit in zip(pairs, ranking, hits, strict=True) if not hit[0]
    ]
    scores = {"words": len(pairs), "first": float(hits[:, 0].mean()), "in five": float(hits.any(axis=1).mean())}
    for title, group in (("taught", taught), ("never taught", ~taught)):
        if group.any():
            scores |= {f"{title}, words": int(group.sum()), f"{title}, first": float(hits[group, 0].mean())}
    return {**scores, "misses": misses}


def _members(word: str, listed: str, place: dict[str, int]) -> list[int]:
    assert word not in place
    return [place[name.lower()] for name in listed.split(", ") if name.lower() in place]


def _precision(groups: dict[str, list[int]], ranking: NDArray[np.int64], first: list[str]) -> dict[str, Any]:
    shares, nearest, rows = [], [], {}
    for (word, members), row in zip(groups.items(), ranking, strict=True):
        shares.append(float(np.isin(row[: len(members)], members).mean()))
        nearest.append(bool(np.isin(row[0], members)))
        rows[word] = [first[at] for at in row[:3]]
    chance = float(np.mean([len(members) / len(first) for members in groups.values()]))
    scores = {"words": len(groups), "precision": float(np.mean(shares)), "first": float(np.mean(nearest))}
    return {**scores, "chance": chance, "nearest": rows}
