"""Words as people write them become the same ordered classes, or an error that says which word is wrong."""

from __future__ import annotations

import json
import pickle
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.errors import UnknownName, VocabularyError
from lexiseg.vocabulary import MAX_CLASSES, Vocabulary

# words without separators, quotes, numbers and whatever else a text means something by; tests/words has the rest
letters = st.characters(categories=["Ll", "Lu", "Lo"]).filter(lambda one: unicodedata.normalize("NFC", one) == one)
words = st.lists(st.text(letters, min_size=1, max_size=6), min_size=1, max_size=3).map(
    lambda parts: unicodedata.normalize("NFC", " ".join(parts))
)


@st.composite
def classes(draw: st.DrawFn) -> list[tuple[str, ...]]:
    unique = draw(st.lists(words, min_size=1, max_size=12, unique_by=str.casefold))
    cuts = sorted(draw(st.sets(st.integers(1, len(unique) - 1)))) if len(unique) > 1 else []
    return [tuple(unique[a:b]) for a, b in zip([0, *cuts], [*cuts, len(unique)], strict=True)]


@given(classes())
def test_string_list_and_mapping_of_the_same_words_are_one_vocabulary(words_of: list[tuple[str, ...]]) -> None:
    vocabulary = Vocabulary(words_of)
    assert vocabulary.words == tuple(words_of)
    assert vocabulary == Vocabulary(", ".join(" | ".join(words) for words in words_of))
    assert vocabulary == Vocabulary(["|".join(words) for words in words_of])
    assert vocabulary == Vocabulary({words[0]: words for words in words_of})


@given(classes(), st.data())
def test_json_gives_back_classes_background_and_flags(words_of: list[tuple[str, ...]], data: st.DataObject) -> None:
    *rest, last = words_of
    seen = data.draw(st.none() | st.lists(st.booleans(), min_size=len(rest), max_size=len(rest)))
    if rest:
        vocabulary = Vocabulary(rest, background=last, seen=seen)
        assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@given(classes(), st.integers(0, 3))
def test_every_query_votes_for_the_class_it_is_a_word_of(words_of: list[tuple[str, ...]], background: int) -> None:
    vocabulary = Vocabulary(words_of, background=[f"background {i}" for i in range(background)])
    by_hand = [(word, place) for place, words in enumerate(words_of) for word in words]
    by_hand += [(f"background {i}", len(words_of)) for i in range(background)]
    assert list(zip(vocabulary.queries, vocabulary.class_of, strict=True)) == by_hand
    assert vocabulary.channels == len(words_of) + (background > 0)
    assert len(vocabulary) == len(words_of)


def test_blanks_around_and_inside_words_are_tidied() -> None:
    assert Vocabulary("  traffic \t light ,car ").names == ("traffic light", "car")


def test_order_is_kept() -> None:
    assert Vocabulary("sky, car, road").names == ("sky", "car", "road")


def test_a_class_may_have_a_name_that_is_none_of_its_words() -> None:
    vocabulary = Vocabulary({"things": ("cup", "spoon")})
    assert vocabulary.names == ("things",)
    assert vocabulary.queries == ("cup", "spoon")


def test_background_words_come_as_a_string_with_commas_or_bars_or_a_list() -> None:
    spelled = [Vocabulary("a", background=given).background for given in ("sky, wall", "sky|wall", ["sky", "wall"])]
    assert spelled == [("sky", "wall")] * 3
    assert Vocabulary("a", background=" ").background == ()


def test_of_returns_a_vocabulary_itself() -> None:
    vocabulary = Vocabulary("a, b", background="c")
    assert Vocabulary.of(vocabulary) is vocabulary
    assert Vocabulary.of("a, b") == Vocabulary("a, b")


def test_a_vocabulary_made_of_another_keeps_what_is_not_given_anew() -> None:
    vocabulary = Vocabulary({"a": "x", "b": "x|y"}, background="c", seen=[True, False], shared_words=True)
    assert Vocabulary(vocabulary) == vocabulary
    assert Vocabulary(vocabulary, background="d") == vocabulary.with_background("d")


def test_with_background_changes_nothing_else() -> None:
    vocabulary = Vocabulary({"a": "x|y", "b": "z"}, background="c", seen=[True, False])
    changed = vocabulary.with_background("sky")
    assert changed.background == ("sky",)
    assert changed.with_background("c") == vocabulary
    assert vocabulary.with_background(()).channels == 2


def test_a_class_is_found_by_its_name_or_any_of_its_words() -> None:
    vocabulary = Vocabulary({"person": ("man", "woman"), "road": "road"})
    assert [vocabulary.index(name) for name in ("person", "woman", "road")] == [0, 0, 1]


def test_a_class_that_is_not_there_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no class is called 'rode'.*'road'"):
        Vocabulary("road, person").index("rode")


def test_the_digest_changes_with_classes_words_order_and_background_only() -> None:
    vocabulary = Vocabulary("a|b, c", background="d")
    others = [Vocabulary("a, c", background="d"), Vocabulary("c, a|b", background="d"), Vocabulary("a|b, c")]
    assert len({vocabulary.digest, *(other.digest for other in others)}) == 4
    assert Vocabulary("a|b, c", background="d", seen=[True, False]).digest == vocabulary.digest


@given(classes())
def test_texts_make_the_same_classes_again(words_of: list[tuple[str, ...]]) -> None:
    vocabulary = Vocabulary({f"class {place}": words for place, words in enumerate(words_of)})
    assert Vocabulary(vocabulary.as_texts()) == vocabulary
    assert Vocabulary(Vocabulary(words_of).as_texts()) == Vocabulary(words_of)


@pytest.mark.parametrize("words", [("glass, drinking glass",), ("a|b",), ("a: b",), ('"a"', "b"), ("classes.txt",)])
def test_classes_that_no_text_can_hold_are_named(words: tuple[str, ...]) -> None:
    with pytest.raises(VocabularyError, match="class"):
        Vocabulary([words]).as_texts()


def test_the_chosen_words_are_all_but_those_of_the_automatic_background() -> None:
    assert Vocabulary("car|van, road", background="auto").chosen == ("car", "van", "road")
    assert Vocabulary("car", background="wall, lagoon").chosen == ("car", "lagoon")


def test_a_vocabulary_is_a_key_and_travels_to_other_processes() -> None:
    vocabulary = Vocabulary("a|b, c", background="d", seen=[True, False])
    assert {vocabulary: 1}[pickle.loads(pickle.dumps(vocabulary))] == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("", "no classes"),
        ("|", "class 1 holds a blank word"),
        ("road,, car", "class 2 holds a blank word"),
        ("road, car|", "class 2 holds a blank word"),
        ([], "no classes"),
        ({}, "no classes"),
        ({"road": []}, "'road' has no words"),
        ({"road": 5.5}, "'road' is 5.5"),
        ({"road": {"street", "lane"}}, "class 'road' is a set, which has no order"),
        ({1.5: "road"}, "holds 1.5, which is a number"),
        ({"road", "car"}, "a set, which has no order"),
        (frozenset({"road"}), "a frozenset, which has no order"),
        ({"road": 1}.items() - {("car", 1)}, "a set, which has no order"),
        (["road, car, sky"], "does the comma stand between classes, or between words of one class"),
        ("classes.txt", "looks like a file"),
        (Path("classes.txt"), r"read it with Vocabulary\.from_file"),
        (["caf\u00e9", "cafe\u0301"], "is given twice"),
        (["car", "car\u200b"], "is given twice"),
        (["car", "\ufeffcar"], "is given twice"),
        (["car", "car\x00"], "is given twice"),
        (["road", ["car", None]], "class 2 holds None, which is null"),
        (["road", "Road"], "'road' and 'Road' is given twice"),
        (["road", ("street", "road")], "word 'road' is given twice"),
        ({"a": "road", "b": "road"}, "word 'road' is given twice"),
        (["\udcff"], "not text"),
        (b"road", "cannot be made of bytes"),
        (5, "cannot be made of a number"),
    ],
)
def test_words_that_cannot_be_used_are_named(given: Any, says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        Vocabulary(given)


@pytest.mark.parametrize(
    ("background", "seen", "says"),
    [
        ("road", None, "'road' is given twice"),
        (["sky", "Sky"], None, "'sky' and 'Sky' is given twice"),
        ([["sky"]], None, "the background holds"),
        (["sky, wall"], None, "the background is 'sky, wall': does the comma"),
        ({"sky", "wall"}, None, "the background is a set, which has no order"),
        (5, None, "the background is 5"),
        ((), [True], "1 flags for 2 classes"),
        ((), 5, "`seen` is 5"),
        ((), "ab", "`seen` is 'ab'"),
    ],
)
def test_background_and_flags_that_cannot_be_used_are_named(background: Any, seen: Any, says: str) -> None:
    with pytest.raises(VocabularyError, match=says):
        Vocabulary("road, car", background=background, seen=seen)


def test_two_classes_may_share_a_word_where_that_is_allowed() -> None:
    given = {"bat": ("bat", "animal"), "club": ("club", "bat")}
    assert Vocabulary(given, shared_words=True).queries == ("bat", "animal", "club", "bat")
    with pytest.raises(VocabularyError, match="'club' is given twice"):
        Vocabulary({"bat": ("club", "club")}, shared_words=True)


def test_as_many_classes_as_a_label_map_holds_and_no_more() -> None:
    names = [f"class {i}" for i in range(MAX_CLASSES)]
    assert len(Vocabulary(names)) == 65_535
    with pytest.raises(VocabularyError, match="65,536 classes"):
        Vocabulary([*names, "one more"])


def test_a_text_file_has_a_class_a_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# street\nroad | street  # both\n\n  café bar\n", encoding="utf-8-sig")
    assert Vocabulary.from_file(path) == Vocabulary([("road", "street"), "café bar"])


@pytest.mark.parametrize(
    "data",
    [
        ["road|street", "car"],
        {"road": ["road", "street"], "car": "car"},
        {"classes": "road|street, car"},
        Vocabulary("road|street, car").to_json(),
    ],
)
def test_a_json_file_holds_a_list_a_mapping_or_what_to_json_gives(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps(data))
    assert Vocabulary.from_file(path) == Vocabulary("road|street, car")


def test_a_json_file_may_have_background_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"classes": ["a", "b"], "background": ["c"], "seen": [True, False]}))
    assert Vocabulary.from_file(path) == Vocabulary("a, b", background="c", seen=[True, False])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[", "not JSON"),
        (b"\xff\xfe[\x00", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "no classes"),
        (b'["car", "Car"]', "'car' and 'Car' is given twice"),
        (b'{"classes": ["a"], "backgrund": []}', "without a meaning: backgrund"),
        (b'{"classes": ["a"], "seen": 5}', "`seen` is 5"),
        (b'{"classes": ["a"], "background": 5}', "background is 5"),
    ],
)
def test_a_file_of_words_that_cannot_be_read_says_why(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=says) as caught:
        Vocabulary.from_file(path)
    assert str(path) in str(caught.value)


def test_a_file_of_words_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"nowhere\.txt"):
        Vocabulary.from_file(tmp_path / "nowhere.txt")


def test_some_of_the_classes_keep_their_words_and_flags() -> None:
    whole = Vocabulary(
        {"cat": ("cat", "kitty"), "dog": ("dog",), "sky": ("sky",)}, background="wall", seen=[True, False, True]
    )
    few = whole.only([2, 0])
    assert (few.names, few.words) == (("sky", "cat"), (("sky",), ("cat", "kitty")))
    assert (few.seen, few.background) == ((True, True), ())
    assert Vocabulary("cat, dog").only([1]).seen is None


def test_ids_order_the_classes_and_numbers_that_are_not_the_label_maps_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Vocabulary({0: "road", 1: "car|van"}) == Vocabulary("road, car|van")
    assert not caplog.messages
    for _ in range(2):
        assert Vocabulary({12: "car", 7: "road"}).names == ("road", "car")
    (said,) = caplog.messages
    assert "0 is 'road' (id 7), 1 is 'car' (id 12)" in said


def test_names_that_are_digits_survive_json_and_an_exact_mapping() -> None:
    vocabulary = Vocabulary({"12": ("12", "twelve"), "7": ("7",)})
    assert vocabulary.names == ("12", "7")
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


def test_a_file_of_our_own_json_is_exact(tmp_path: Path) -> None:
    vocabulary = Vocabulary([("12", "a, b"), "7"], background="sky", seen=[True, False])
    for content in (vocabulary.to_json(), {"vocabulary": vocabulary.to_json(), "model": "x"}):
        (tmp_path / "words.json").write_text(json.dumps(content))
        assert Vocabulary.from_file(tmp_path / "words.json") == vocabulary


def test_a_class_is_found_by_a_name_that_is_spelt_otherwise() -> None:
    assert Vocabulary("bar, caf\u00e9").index("cafe\u0301") == 1


def test_an_automatic_background_gives_way_to_the_classes(tmp_path: Path) -> None:
    vocabulary = Vocabulary("car, street", background="auto")
    assert {"sky", "wall", "tree"} <= set(vocabulary.background)
    assert "road" not in vocabulary.background
    assert Vocabulary("car, street").with_background("auto") == vocabulary
    (tmp_path / "words.json").write_text(json.dumps({"classes": ["car", "street"], "background": "auto"}))
    assert Vocabulary.from_file(tmp_path / "words.json") == vocabulary
