from __future__ import annotations

import numpy as np

from lexiseg.data.mini.concepts import COARSER, gather_concepts

NAMES = [
    ("dog", "puppy"),
    ("cat", "tabby"),
    ("Chihuahua",),
    ("tabby", "tabby cat"),
    ("granny smith", "apple"),
    ("sky",),
]


def place(concepts, name):
    return [one[0] for one in concepts.names].index(name)


def related(concepts, first, second):
    return bool(concepts.related[place(concepts, first), place(concepts, second)])


def test_given_concepts_keep_their_places_and_coarse_words_follow():
    concepts = gather_concepts(NAMES)
    assert list(concepts.names[: len(NAMES)]) == NAMES
    added = [one[0] for one in concepts.names[len(NAMES) :]]
    assert set(added) == {"animal", "apple", "fruit"}
    assert set(added) <= set(COARSER)


def test_coarser_concepts_include_the_coarser_ones_of_those():
    concepts = gather_concepts(NAMES)
    assert {concepts.names[at][0] for at in concepts.coarser[place(concepts, "Chihuahua")]} == {"dog", "animal"}
    assert concepts.coarser[place(concepts, "sky")] == ()


def test_coarser_finer_and_like_named_concepts_are_related_and_others_are_not():
    concepts = gather_concepts(NAMES)
    assert related(concepts, "Chihuahua", "dog")
    assert related(concepts, "animal", "Chihuahua")
    assert related(concepts, "cat", "tabby")
    assert related(concepts, "granny smith", "apple")
    assert not related(concepts, "dog", "cat")
    assert not related(concepts, "sky", "animal")


def test_relations_are_mutual_and_never_with_oneself():
    concepts = gather_concepts(NAMES)
    assert np.array_equal(concepts.related, concepts.related.T)
    assert not concepts.related.diagonal().any()


def test_nothing_is_coarser_than_itself():
    names = sorted({word for finer in COARSER.values() for word in finer.split(", ")} | set(COARSER))
    concepts = gather_concepts([(name,) for name in names])
    assert len(concepts.names) == len(names)
    assert all(at not in coarser for at, coarser in enumerate(concepts.coarser))
