"""What `data check` asks about a class list, and what it says to write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import official_trees as trees
import pytest

from lexiseg.benchmarks._advice import doubtful
from lexiseg.benchmarks._benchmark import open as open_benchmark
from lexiseg.benchmarks._check import check


def asked(data: Path, classes: object, ids: list[list[int]]) -> list[str]:
    trees.photo(data / "images" / "a.jpg", ids)
    trees.png(data / "masks" / "a.png", ids)
    trees.write_json(data / "classes.json", classes)
    return list(check("folder", data).questions)


def written(question: str) -> list[object]:
    """The contents of classes.json that a question proposes."""
    return [json.loads(text) for text in re.findall(r"\{(?:[^{}]|\{[^{}]*\})*\}", question)]


@pytest.mark.parametrize("name", ["_background_", "__Background__", "other", "unlabeled", "Void", "don't care", "none"])
def test_a_name_that_may_be_no_class_is_asked_about(data: Path, name: str) -> None:
    (question,) = asked(data, ["road", name], [[0, 1]])
    assert question.startswith(f"what is {name!r} (id 1)?")
    assert written(question) == [{"0": "road", "1": "background"}, {"classes": {"0": "road"}, "ignore": [1]}]
    assert str(check("folder", data)).count("QUESTION") == 1
    assert check("folder", data).complete


def test_what_it_says_to_write_is_read_so(data: Path) -> None:
    (question,) = asked(data, ["road", "void"], [[0, 1]])
    background, ignored = written(question)
    for content, truth in ((background, [[0, 1]]), (ignored, [[0, 255]])):
        trees.write_json(data / "classes.json", content)
        assert open_benchmark("folder", data).samples[0].truth().tolist() == truth


@pytest.mark.parametrize("name", ["road", "background", "other side", "unknown soldier"])
def test_other_names_are_classes(name: str) -> None:
    assert not doubtful(name)


def test_beside_a_background_it_is_not_proposed_to_have_a_second_one(data: Path) -> None:
    (question,) = asked(data, ["background", "road", "other"], [[0, 1, 2]])
    assert "give its pixels the id 0" in question
    assert written(question) == [{"classes": {"0": "background", "1": "road"}, "ignore": [2]}]


def test_masks_of_0_and_255_get_the_id_of_their_class(data: Path) -> None:
    (question,) = asked(data, ["background", "dog"], [[0, 255]])
    assert "255 is not scored" in question
    (content,) = written(question)
    assert content == {"0": "background", "255": "dog"}
    trees.write_json(data / "classes.json", content)
    assert open_benchmark("folder", data).samples[0].truth().tolist() == [[1, 0]]
    assert not asked(data, content, [[0, 255]])


@pytest.mark.parametrize("ids", [[[0, 1, 255]], [[0, 0, 0]], [[0, 1, 1]]])
def test_masks_with_other_ids_are_not_those_of_two_colours(data: Path, ids: list[list[int]]) -> None:
    assert not asked(data, ["background", "dog"], ids)


def test_ids_from_1_get_their_numbers(data: Path) -> None:
    (question,) = asked(data, ["road", "car", "sky"], [[1, 3, 255]])
    assert written(question) == [{"1": "road", "2": "car", "3": "sky"}]
    assert not asked(data, written(question)[0], [[1, 3, 255]])


def test_a_0_beside_ids_from_1_can_be_ignored(data: Path) -> None:
    (question,) = asked(data, ["road", "car"], [[0, 1, 2]])
    numbered, ignoring = written(question)
    assert numbered == {"1": "road", "2": "car"}
    assert ignoring == {"classes": {"1": "road", "2": "car"}, "ignore": [0]}


def test_long_lists_are_cut(data: Path) -> None:
    (question,) = asked(data, [*"abcdefgh", "void"], [[0, 1]])
    assert '"5": "f", ...}' in question
