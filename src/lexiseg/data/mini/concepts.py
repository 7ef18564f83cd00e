"""Names what photographs can show, and says what is related.

Related concepts (those that share a name, and coarser with finer ones) must not be each other's negatives: a photograph
of a Chihuahua is not a mistake for "dog".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COARSER", "Concepts", "gather_concepts"]

COARSER = {  # coarse word: first names of the finer concepts among the miniature set's
    "animal": "leopard, beaver, cougar, cougar face, crocodile, crocodile head, dolphin, gerenuk, hawksbill turtle, "
    "hedgehog, kangaroo, llama, octopus, okapi, platypus, rhino, goldfish, European fire salamander, bullfrog, "
    "tailed frog, American alligator, boa constrictor, koala, jellyfish, snail, slug, dugong, lion, guinea pig, hog, "
    "gazelle, Arabian camel, orangutan, chimpanzee, baboon, lesser panda, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe",
    "apple": "golden delicious, granny smith, pink lady, red delicious, royal gala",
    "bear": "panda, brown bear",
    "bird": "emu, flamingo, flamingo head, ibis, pigeon, rooster, goose, black stork, king penguin, albatross",
    "boat": "ferry, ketch, schooner, gondola, lifeboat",
    "book": "comic book",
    "bottle": "ewer, beer bottle, pill bottle, pop bottle, water jug",
    "bowl": "wok",
    "bridge": "steel arch bridge, suspension bridge, viaduct",
    "building": "house, minaret, pagoda, barbershop, barn, beacon, butcher shop, cliff dwelling, confectionery, "
    "thatch, triumphal arch, water tower",
    "bus": "school bus, trolleybus",
    "butterfly": "monarch, sulphur butterfly",
    "car": "beach wagon, convertible, go-kart, limousine, moving van, police van, sports car",
    "cat": "wild cat, tabby, Persian cat, Egyptian cat",
    "cell phone": "iPod, pay-phone",
    "chair": "wheelchair, windsor chair, rocking chair",
    "clock": "watch, hourglass, stopwatch",
    "cougar": "cougar face",
    "cow": "ox, bison",
    "crocodile": "crocodile head, American alligator",
    "cup": "beaker, espresso",
    "dog": "dalmatian, Chihuahua, Yorkshire terrier, golden retriever, Labrador retriever, German shepherd, "
    "standard poodle",
    "elephant": "African elephant",
    "fence": "bannister, picket fence, turnstile",
    "flamingo": "flamingo head",
    "flower": "lotus flower, sunflower, water lily",
    "food": "pizza, guacamole, ice cream, ice lolly, pretzel, mashed potato, cauliflower, meat loaf, potpie, sandwich, "
    "hot dog, donut, cake, fruit",
    "frog": "bullfrog, tailed frog",
    "fruit": "banana, apple, orange, strawberry, golden delicious, granny smith, pink lady, red delicious, royal gala, "
    "avocado, kiwi, lemon, lime, mango, cantaloupe, galia melon, honeydew melon, watermelon, nectarine, papaya, "
    "passion fruit, peach, anjou, conference, kaiser, pineapple, plum, pomegranate, red grapefruit, satsumas",
    "guitar": "electric guitar",
    "insect": "ant, butterfly, dragonfly, mayfly, ladybug, fly, bee, grasshopper, walking stick, cockroach, mantis, "
    "monarch, sulphur butterfly",
    "light": "chandelier, lamp, candle, lampshade, torch",
    "lobster": "American lobster, spiny lobster",
    "monkey": "orangutan, chimpanzee, baboon",
    "mountain": "alp, cliff",
    "mushroom": "brown cap mushroom",
    "panda": "lesser panda",
    "person": "academic gown, bikini, cardigan, fur coat, gasmask, kimono, military uniform, miniskirt, neck brace, "
    "poncho, snorkel, swimming trunks, vestment",
    "rock": "cliff, cliff dwelling",
    "roof": "thatch",
    "sea": "brain coral, coral reef, seashore",
    "sheep": "bighorn",
    "sign": "stop sign",
    "spider": "black widow, tarantula",
    "spoon": "wooden spoon",
    "sports ball": "soccer ball, basketball, rugby ball, volleyball",
    "table": "dining table, desk",
    "tie": "bow tie",
    "train": "bullet train, freight car",
    "tree": "bonsai, joshua tree",
    "truck": "moving van",
    "vase": "ewer",
    "vegetable": "carrot, asparagus, aubergine, cabbage, cucumber, garlic, ginger, leek, brown cap mushroom, "
    "yellow onion, green bell pepper, orange bell pepper, red bell pepper, yellow bell pepper, floury potato, "
    "solid potato, sweet potato, red beet, beef tomato, regular tomato, vine tomato, zucchini, cauliflower, "
    "bell pepper, mushroom, broccoli",
    "water": "fountain, sea, river, lakeside, seashore",
}


@dataclass(frozen=True, eq=False)
class Concepts:
    """names: of each concept, its first name first. coarser: the coarser concepts of each.

    related: whether two concepts may both be right for one place [C, C]; no concept is related to itself.
    """

    names: tuple[tuple[str, ...], ...]
    coarser: tuple[tuple[int, ...], ...]
    related: NDArray[np.bool_]


def gather_concepts(names: Sequence[Sequence[str]]) -> Concepts:
    """The given concepts, in their order, then the coarse words that none of them has as its first name."""
    every = [tuple(one) for one in names]
    place = {one[0].lower(): at for at, one in reversed(list(enumerate(every)))}
    coarser: list[set[int]] = [set() for _ in every]
    for word, finer in COARSER.items():
        children = [place[name.lower()] for name in finer.split(", ") if name.lower() in place]
        if not children:
            continue
        if word not in place:
            place[word] = len(every)
            every.append((word,))
            coarser.append(set())
        for child in children:
            coarser[child].add(place[word])
    coarser = [_closed(at, coarser) for at in range(len(every))]
    return Concepts(tuple(every), tuple(tuple(sorted(one)) for one in coarser), _related(every, coarser))


def _closed(at: int, coarser: Sequence[set[int]]) -> set[int]:
    """The coarser concepts of one, and theirs, and so on."""
    found: set[int] = set()
    waiting = [at]
    while waiting:
        new = coarser[waiting.pop()] - found - {at}
        found |= new
        waiting += new
    return found


def _related(names: Sequence[Sequence[str]], coarser: Sequence[set[int]]) -> NDArray[np.bool_]:
    related = np.zeros((len(names), len(names)), bool)
    lower = [{name.lower() for name in one} for one in names]
    for at, own in enumerate(lower):
        related[at, list(coarser[at])] = True
        related[at, [other for other, theirs in enumerate(lower) if own & theirs]] = True
    related |= related.T
    np.fill_diagonal(related, False)
    return related
