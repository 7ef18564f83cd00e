"""Class names are data: what docs/papers and the official files say of them, and a hash of each list."""

from __future__ import annotations

import hashlib
import json

import pytest

from lexiseg.benchmarks import _classes
from lexiseg.errors import UnknownName
from lexiseg.vocabulary import Vocabulary

# docs/papers/simseg.md §6.3
VOC_NAMES = """
    aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, table, dog, horse, motorbike, person, plant,
    sheep, sofa, train, monitor"""
CONTEXT_NAMES = """
    airplane, bag, bed, bedclothes, bench, bicycle, bird, boat, book, bottle, building, bus, cabinet, car, cat,
    ceiling, chair, cloth, computer, cow, cup, curtain, dog, door, fence, floor, flower, food, grass, ground, horse,
    keyboard, light, motorbike, mountain, mouse, person, plate, platform, plant, road, rock, sheep, shelves, sidewalk,
    sign, sky, snow, sofa, table, track, train, tree, truck, monitor, wall, water, window, wood"""
VOC_GROUPVIT = [name.strip() for name in VOC_NAMES.split(",")]
CONTEXT_GROUPVIT = [name.strip() for name in CONTEXT_NAMES.split(",")]
CONTEXT_IDS = [  # simseg.md §6.4, without the background
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159),
    *(162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368),
    *(397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
]


def words(class_set: str, wording: str) -> list[str]:
    found = _classes.classes(class_set, wording)
    assert all(len(label.words) == 1 for label in found)
    return [label.words[0] for label in found]


def ids(class_set: str, kind: str = "id") -> list[int]:
    return [label.ids[kind] for label in _classes.classes(class_set, next(iter(_classes.wordings(class_set))))]


def test_voc_wordings_are_those_of_the_papers() -> None:
    own = words("voc", "voc")
    assert words("voc", "groupvit") == VOC_GROUPVIT
    renamed = {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv monitor",
    }
    assert words("voc", "maskclip") == [renamed.get(name, name) for name in own]  # maskclip.md §2.9
    assert ids("voc") == list(range(1, 21))


def test_context_wordings_are_those_of_the_papers() -> None:
    own = words("context", "mmseg")
    assert words("context", "groupvit") == CONTEXT_GROUPVIT
    originals = {"airplane": "aeroplane", "plant": "pottedplant", "monitor": "tvmonitor"}
    assert own == words("context", "simseg") == [originals.get(name, name) for name in CONTEXT_GROUPVIT]
    renamed = {"aeroplane": "airplane", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
    assert words("context", "maskclip") == [renamed.get(name, name) for name in own]
    assert words("context", "zsseg") == ["diningtable" if name == "table" else name for name in own]
    assert own[49] == "table"


def test_context_ids_are_those_of_the_full_annotation() -> None:
    assert ids("context") == CONTEXT_IDS
    assert ids("context", "png") == list(range(1, 60))
    assert sorted(ids("context", "png59")) == list(range(1, 60))


def test_coco_ids_leave_the_ten_unused_out() -> None:
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert ids("coco80") == [number for number in range(1, 91) if number not in unused]
    assert ids("coco_stuff171") == [number for number in range(1, 183) if number not in unused | {91}]
    for class_set in ("coco80", "coco_stuff171"):
        assert ids(class_set, "pixel") == [number - 1 for number in ids(class_set)]
    assert words("coco_stuff171", "coco")[:80] == words("coco80", "coco")


def test_maskclip_rewrites_coco_stuff_by_its_rule() -> None:
    def rewritten(name: str) -> str:  # maskclip.md §2.9
        first, dash, last = name.partition("-")
        return first if last in ("other", "stuff") else f"{last} {first}" if dash else name

    assert words("coco_stuff171", "maskclip") == [rewritten(name) for name in words("coco_stuff171", "coco")]


def test_ade_names_of_zsseg_hold_commas_in_one_prompt() -> None:
    assert words("ade150", "zsseg")[6] == "road, route"
    assert words("ade150", "mmseg")[6] == "road"
    assert ids("ade150") == list(range(1, 151))
    stuff = [label for label in _classes.classes("ade150", "mmseg") if not label.thing]
    assert len(stuff) == 35


def test_ade847_numbers_are_those_of_the_ade20k_index() -> None:
    # read from three annotated photographs of the official release
    expected = {2978: "wall", 312: "building", 401: "car", 2131: "road", 2377: "sidewalk", 2420: "sky", 2855: "tree"}
    found = {label.ids["id"]: label.name for label in _classes.classes("ade847", "first")}
    assert {number: found[number] for number in expected} == expected
    assert len(found) == 847


def test_imagenet_s_numbers_follow_the_sorted_synsets() -> None:
    found = _classes.classes("imagenet_s919", "first")
    assert [label.ids["id"] for label in found] == list(range(1, 920))
    assert found[0].words == ("tench",)
    cranes = [label for label in found if label.words == ("crane",)]
    assert len({label.name for label in cranes}) == 2  # the bird and the machine


def test_cityscapes_things_are_those_with_instances() -> None:
    found = _classes.classes("cityscapes19", "cityscapes")
    things = [label.name for label in found if label.thing]
    assert things == ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    assert [label.ids["id"] for label in found] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]


def test_background_lists_hold_the_words_of_the_specs() -> None:
    assert _classes.background_words("maskclip_web") == ("building", "ground", "grass", "tree", "sky")
    assert _classes.background_words("cityscapes") == tuple(words("cityscapes19", "cityscapes"))
    sclip = _classes.background_words("sclip")
    assert (len(sclip), sclip[0], sclip[-1]) == (26, "sky", "fence")
    assert set(_classes.background_lists()) == {"background", "cityscapes", "maskclip_web", "sclip"}


@pytest.mark.parametrize("class_set", _classes.class_sets())
def test_ids_and_names_are_unique_and_words_make_a_vocabulary(class_set: str) -> None:
    for wording in _classes.wordings(class_set):
        found = _classes.classes(class_set, wording)
        for kind in found[0].ids:
            assert len({label.ids[kind] for label in found}) == len(found)
        Vocabulary({label.name: label.words for label in found}, shared_words=True)


def test_a_wording_or_list_that_does_not_exist_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="'groupvit'"):
        _classes.classes("voc", "groupvitt")
    with pytest.raises(UnknownName, match="'sclip'"):
        _classes.background_words("sclipp")


def digest(class_set: str, wording: str) -> str:
    found = [[label.name, label.words, label.ids, label.thing] for label in _classes.classes(class_set, wording)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def test_class_lists_have_not_changed() -> None:
    """A change here changes what published numbers mean: raise the file's version and say so in the changelog."""
    lists = [(class_set, wording) for class_set in _classes.class_sets() for wording in _classes.wordings(class_set)]
    assert {f"{class_set}/{wording}": digest(class_set, wording) for class_set, wording in lists} == DIGESTS


DIGESTS = {
    "ade150/mmseg": "ef53e35f22a59ec5",
    "ade150/zsseg": "20018ff243544ca5",
    "ade150/synonyms": "d74ce3d244008224",
    "ade847/first": "9b876c0a8b3e077a",
    "ade847/zsseg": "763549882ac41b09",
    "ade847/synonyms": "e016470d998f9eb7",
    "cityscapes19/cityscapes": "5b516cf1ab1641d1",
    "coco80/coco": "5a8d57d22756b3a0",
    "coco_stuff171/coco": "7ad542f9cff81b49",
    "coco_stuff171/maskclip": "0bb3fa09ce77be8e",
    "context/mmseg": "52c5352143ff30d7",
    "context/simseg": "52c5352143ff30d7",
    "context/maskclip": "4f91c879ec90974c",
    "context/groupvit": "3a723791d8efcc66",
    "context/zsseg": "2fa107682f72701d",
    "imagenet_s919/first": "28d9ec84270b9a2a",
    "imagenet_s919/synonyms": "e7224e6546418cde",
    "voc/voc": "d114cbc62afedd98",
    "voc/maskclip": "4858fa5196938e67",
    "voc/groupvit": "2c115c60b6fc5bdb",
    "voc/sclip": "0ffec819898ca91b",
}
