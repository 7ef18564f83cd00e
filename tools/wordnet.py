"""Reads the nouns of WordNet: their synsets, what they are a kind of, and which of them the names of a model mean."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SENSES = 3  # of a noun that count, the most frequent first
ANIMAL = "05"
VISIBLE = frozenset(("03", "05", "06", "08", "13", "14", "17", "18", "19", "20", "27"))  # of lexnames(5WN)


@dataclass(frozen=True)
class Synset:
    """area: the number of WordNet's file. kinds: keys of the synsets that it is a kind of."""

    words: tuple[str, ...]
    area: str
    kinds: tuple[str, ...]

    @property
    def visible(self) -> bool:
        return self.area in VISIBLE


@dataclass(frozen=True)
class Nouns:
    """synsets: by key. senses: the keys of a word's synsets, the most frequent first."""

    synsets: Mapping[str, Synset]
    senses: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, folder: Path) -> Nouns:
        """WordNet's `data.noun` and `index.noun`; wndb(5WN) describes them."""
        synsets = {
            line.split(" ", 1)[0]: _synset(line.split(" | ")[0].split()) for line in _lines(folder / "data.noun")
        }
        rows = (line.split() for line in _lines(folder / "index.noun"))
        senses = {row[0].replace("_", " "): tuple(row[-int(row[2]) :]) for row in rows}
        return cls(synsets, senses)

    @cached_property
    def _depths(self) -> dict[str, int]:
        return {}

    @cached_property
    def finer(self) -> Mapping[str, list[str]]:
        """The synsets that are a kind of each."""
        found: dict[str, list[str]] = defaultdict(list)
        for key, synset in self.synsets.items():
            for kind in synset.kinds:
                found[kind].append(key)
        return found

    def kinds(self, key: str) -> dict[str, int]:
        """The synset itself and all that it is a kind of, with the number of steps."""
        steps, front = {key: 0}, [key]
        for step in itertools.count(1):
            front = [kind for one in front for kind in self.synsets[one].kinds if kind not in steps]
            if not front:
                return steps
            steps |= dict.fromkeys(front, step)
        raise AssertionError("itertools.count does not end")

    def depth(self, key: str) -> int:
        """Steps up to what is a kind of nothing, and one."""
        if key not in self._depths:
            self._depths[key] = 1 + min(map(self.depth, self.synsets[key].kinds), default=0)
        return self._depths[key]

    def likeness(self, one: str, other: str) -> float:
        """Of two synsets, 0-1: how deep the nearest common kind lies (Wu and Palmer 1994)."""
        kinds, others = self.kinds(one), self.kinds(other)
        shared = kinds.keys() & others.keys()
        return max((2 * self.depth(k) / (2 * self.depth(k) + kinds[k] + others[k]) for k in shared), default=0.0)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="latin-1") as file:
        yield from (line for line in file if not line.startswith("  "))  # the licence


def _synset(cells: list[str]) -> Synset:
    count = int(cells[3], 16)
    words = tuple(cells[4 + 2 * place].replace("_", " ").lower() for place in range(count))
    first = 5 + 2 * count
    pointers = [cells[first + 4 * place : first + 4 * place + 3] for place in range(int(cells[first - 1]))]
    return Synset(words, cells[1], tuple(key for symbol, key, part in pointers if symbol == "@" and part == "n"))


def synsets_of(nouns: Nouns, concept: Sequence[str]) -> list[str]:
    """What a concept with these names means; a name that WordNet lacks means its last word: "wooden floor"."""
    names = [name.lower() for name in concept]
    found = [key for name in names for key in _meant(nouns, name, names)]
    return found or [key for name in names for key in _meant(nouns, name.split()[-1], names)]


def name_of_each(nouns: Nouns, names: Sequence[Sequence[str]]) -> dict[str, str]:
    """The name that the model has for a synset."""
    found: dict[str, str] = {}
    for concept in ([name.lower() for name in one] for one in names):
        for name in concept:
            for key in _meant(nouns, name, concept):
                found.setdefault(key, name)
    return found


def _meant(nouns: Nouns, name: str, concept: Sequence[str]) -> list[str]:
    """The senses that a concept's names share, else an animal (a turtle is a pullover first), else the first one."""
    senses = nouns.senses.get(name) or nouns.senses.get(name.removesuffix("s"), ())
    visible = [key for key in senses if nouns.synsets[key].visible]
    shared = [key for key in visible if set(nouns.synsets[key].words) & set(concept) - {name}]
    animals = [key for key in visible[:SENSES] if nouns.synsets[key].area == ANIMAL]
    return shared or animals[:1] or visible[:1]
