"""The same words in any form that people keep them in are the same classes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import classes

from lexiseg.errors import VocabularyError
from lexiseg.words.entry import Entry
from lexiseg.words.files import parse, read

Classes = list[tuple[str, ...]]


def barred(given: Classes) -> list[str]:
    return ["|".join(words) for words in given]


def table(given: Classes, delimiter: str, *, ids: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["Class ID", "Name", "Synonyms", "red"] if ids else ["name", "synonyms"])
    for place, (name, *others) in enumerate(given):
        writer.writerow([place, name, "|".join(others), 255] if ids else [name, "|".join(others)])
    return text.getvalue()


FORMS: dict[str, Callable[[Classes], str]] = {
    "one line": lambda given: ", ".join(barred(given)),
    "semicolons": lambda given: ";".join(barred(given)),
    "tabs": lambda given: "\t".join(barred(given)),
    "lines": lambda given: "# classes\n\n" + "\n".join(f" {words}  # a comment" for words in barred(given)),
    "lines with commas": lambda given: ",\r\n".join(barred(given)) + ",\r\n",
    "bullets": lambda given: "\n".join(f"- {words}" for words in barred(given)),
    "a numbered list": lambda given: "\n".join(f"{place}. {words}" for place, words in enumerate(barred(given), 1)),
    "numbers alone": lambda given: "\n".join(f"{place} {words}" for place, words in enumerate(["z1", *barred(given)])),
    "ids": lambda given: "\n".join(f"{place}: {words}" for place, words in reversed([*enumerate(barred(given))])),
    "ids and tabs": lambda given: "\n".join(f"{place}\t{words}" for place, words in enumerate(barred(given))),
    "names": lambda given: "\n".join(f"{words[0]}: {'|'.join(words)}" for words in given),
    "quotes": lambda given: ", ".join('"' + '"|"'.join(words) + '"' for words in given),
    "a JSON list": lambda given: json.dumps(given),
    "a JSON list of texts": lambda given: json.dumps({"classes": barred(given)}),
    "a JSON mapping": lambda given: json.dumps({words[0]: words for words in given}, ensure_ascii=False),
    "JSON ids": lambda given: json.dumps({str(place): words for place, words in enumerate(given)}),
    "COCO": lambda given: json.dumps(
        {
            "info": {},
            "categories": [
                {"id": place, "name": words[0], "synonyms": words[1:], "supercategory": "x"}
                for place, words in enumerate(given)
            ],
        }
    ),
    "a YOLO list": lambda given: yaml.safe_dump({"path": "x", "nc": 3, "names": barred(given)}, allow_unicode=True),
    "a YOLO mapping": lambda given: yaml.safe_dump({"names": dict(enumerate(barred(given)))}),
    "a YAML flow": lambda given: "[" + ", ".join("'" + words.replace("'", "''") + "'" for words in barred(given)) + "]",
    "CSV": lambda given: table(given, ",", ids=True),
    "CSV with semicolons": lambda given: table(given, ";", ids=False),
    "tab-separated": lambda given: table(given, "\t", ids=True),
}
SUFFIXES = {"YOLO": ".yaml", "JSON": ".json", "COCO": ".json", "CSV": ".csv", "tab-separated": ".tsv"}


def suffix(form: str) -> str:
    return next((suffix for part, suffix in SUFFIXES.items() if part in form), ".txt")


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(given=classes(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_any_classes_in_any_form_are_read_back(
    form: str, given: Classes, encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"words{suffix(form)}"
    path.write_bytes(FORMS[form](given).encode(encoding))
    found = [entry.words for entry in read(path).entries]
    assert found == ([("z1",), *given] if form == "numbers alone" else given)


@given(given=classes())
def test_the_content_of_a_file_is_a_text_in_python_too(given: Classes) -> None:
    for form, write in FORMS.items():
        if suffix(form) != ".csv" and "YOLO" not in form:
            found = [entry.words for entry in parse(write(given)).entries]
            assert found[-len(given) :] == given, form


def test_ids_decide_the_order_and_stay_known() -> None:
    assert parse('{"12": ["car", "van"], "7": "road"}').entries == (
        Entry("road", ("road",), 7),
        Entry("car", ("car", "van"), 12),
    )
    assert [entry.id for entry in parse("names:\n  3: road\n  1: car\n", ".yaml").entries] == [1, 3]
    assert [entry.id for entry in parse("id,name\n5,road\n2,car\n", ".csv").entries] == [2, 5]
    assert parse('{"road": 7, "car": 3}').entries == (Entry("car", ("car",), 3), Entry("road", ("road",), 7))


def test_a_classes_json_has_ids_flags_and_what_is_ignored() -> None:
    content = {"classes": [{"id": 7, "name": "road", "synonyms": ["street"], "thing": False}], "ignore": 0}
    found = parse(json.dumps(content), ".json")
    assert found.entries == (Entry("road", ("road", "street"), 7, False),)
    assert found.ignore == (0,)
    assert parse('{"classes": ["a"], "ignore": [0, 254]}').ignore == (0, 254)


def test_yaml_words_that_other_readers_take_for_values_stay_words() -> None:
    assert [entry.name for entry in parse("[no, on, null, true, 3d]").entries] == ["no", "on", "null", "true", "3d"]


def test_lines_in_a_yaml_file_without_any_structure_are_lines() -> None:
    assert [entry.name for entry in parse("traffic light\ncar\n", ".yaml").entries] == ["traffic light", "car"]


def test_a_table_of_one_column_or_one_row_needs_no_header() -> None:
    for text in ("road\ncar\n", "road,car\n", "0,road\n1,car\n", "name\nroad\ncar\n", "1;road\n2;car\n"):
        assert [entry.name for entry in parse(text, ".csv").entries] == ["road", "car"], text


@pytest.mark.parametrize(
    ("text", "suffix", "says"),
    [
        ('{"vehicle": ["car"], "vehicle": ["bus"]}', ".json", "'vehicle' is given twice"),
        ("vehicle: car\nvehicle: bus\n", ".yaml", "'vehicle' is given twice"),
        ("{a: 1, a: 2}", ".txt", "not JSON"),
        ("[" * 100_000 + "]" * 100_000, ".json", "nested too deeply"),
        ('{"a":' * 100_000, ".txt", "nested too deeply"),
        ("[" * 100_000, ".yaml", "nested too deeply"),
        ("- " * 5_000, ".yaml", "YAML"),
        ("&a [*a]", ".yaml", "nested too deeply"),
        ("[1" + "0" * 5_000 + "]", ".json", "not JSON"),
        ("[road, car", ".txt", "not JSON"),
        ("road: [car", ".yaml", "not YAML"),
        ("? [a, b]\n: c", ".yaml", "not YAML"),
        ("5", ".json", "made of a number"),
        ("null", ".json", "made of null"),
        ("[5]", ".json", r"5; give a word"),
        ('[["car", 5]]', ".json", "5, which is a number"),
        ('[["car", ["van"]]]', ".json", "'van'.*not a word"),
        ('["road, car, sky"]', ".json", "does the comma stand between classes"),
        ('{"road": "street, lane"}', ".json", "does the comma stand"),
        ('{"7": "road", "car": "van"}', ".json", "'7' is a number and 'car' is a name"),
        ('{"1": "road", "01": "car"}', ".json", "same id 1"),
        ('{"road": 1, "car": 1}', ".json", "same id 1"),
        ('[{"id": 1}]', ".json", "without a name"),
        ('[{"id": -1, "name": "a"}]', ".json", "id -1"),
        ('{"classes": ["a"], "backgrund": []}', ".json", "without a meaning: backgrund"),
        ('{"classes": ["a"], "seen": 5}', ".json", "`seen` is 5"),
        ('{"classes": {"1": "a"}, "seen": [true]}', ".json", "these classes have ids"),
        ('{"classes": ["a"], "background": 5}', ".json", "background is 5"),
        ('{"classes": ["a"], "ignore": "x"}', ".json", "`ignore` is 'x'"),
        ("road, car\nsky", ".txt", "does the comma stand"),
        ("wall, walls\nfloor, flooring", ".txt", "does the comma stand"),
        ("road\tcar\nsky\ttree", ".txt", "does the tab stand"),
        ("road, car; sky", ".txt", "commas and semicolons"),
        ("1. road\ncar", ".txt", "'1. road' has a number and 'car' has none"),
        ("1: road\n1: car", ".txt", "same id 1"),
        ('"road, car', ".txt", "quote that does not end"),
        ("classes.txt", ".txt", "looks like a file"),
        ("a,b,c\n1,2,3\n", ".csv", "which column has the names"),
        ("id,name\n1\n", ".csv", "row 1 has 1 cells"),
        ("id,name\n1,road\n1,car\n", ".csv", "same id 1"),
    ],
)
def test_whatever_could_mean_two_things_or_none_is_a_sentence(
    text: str, suffix: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / f"words{suffix}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(VocabularyError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("café".encode("latin-1"), "not UTF-8 text"),
        ("road\ncar".encode("utf-16-le"), "every other byte is 0"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\xff", "not UTF-8 text"),
        (b"\xff\xfea", "not UTF-16 text"),
    ],
)
def test_what_is_not_text_is_said_with_what_to_do(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(VocabularyError, match=f"words.txt: .*{says}.*UTF-8"):
        read(tmp_path / "words.txt")


@pytest.mark.parametrize("name", ["nowhere.txt", "", "nul\0.txt"])
def test_a_file_that_cannot_be_opened_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="cannot read the words in"):
        read(tmp_path / name)


def test_a_file_of_another_kind_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 34)  # a hole
    with pytest.raises(VocabularyError, match="more than 16 MB"):
        read(tmp_path / "huge.txt")


def test_aliases_in_yaml_cannot_blow_it_up() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    start = time.perf_counter()
    with pytest.raises(VocabularyError, match="not a word") as caught:
        parse(bomb, ".yaml")
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - start < 2


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.one_of(json_values.map(json.dumps), st.text()), st.sampled_from([".json", ".yaml", ".csv", ".txt", ""]))
def test_any_content_is_read_or_refused_with_a_sentence(text: str, suffix: str) -> None:
    with contextlib.suppress(VocabularyError):
        assert all(entry.words for entry in parse(text, suffix).entries)
