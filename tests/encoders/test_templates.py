from __future__ import annotations

from pathlib import Path

import pytest

from lexiseg.encoders.templates import names, templates
from lexiseg.errors import SettingError, UnknownName


def test_the_sets_have_the_sizes_that_their_papers_say() -> None:
    assert {name: len(templates(name)) for name in names()} == {
        "single": 1,
        "imagenet80": 80,
        "maskclip85": 85,
        "vild14": 14,
    }


@pytest.mark.parametrize("name", names())
def test_no_sentence_is_there_twice_and_each_has_one_place_for_the_word(name: str) -> None:
    sentences = templates(name)
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.count("{}") == 1 for sentence in sentences)


def test_the_80_are_the_patterns_of_the_table() -> None:
    looks = ["bad", "low resolution", "cropped", "bright", "dark", "close-up", "black and white", "pixelated"]
    looks += ["jpeg corrupted", "blurry", "good"]
    kinds = ["hard to see", "clean", "dirty", "cool", "nice", "weird", "small", "large"]
    makes = ["embroidered", "plastic", "cartoon", "origami", "toy", "plushie"]
    arts = ["sculpture", "rendering", "tattoo", "drawing", "painting", "sketch", "doodle", "rendition"]
    groups = [
        {f"a {q} photo of {a} {{}}." for q in looks for a in ("a", "the")},
        {f"a photo of {a} {q} {{}}." for q in kinds for a in ("a", "the")},
        {f"a photo of {a} {{}}." for a in ("many", "my", "one", "a", "the")},
        {f"{a} {q} {{}}." for q in makes for a in ("a", "the")},
        {f"a {q} of {a} {{}}." for q in arts for a in ("a", "the")},
        {f"{q} of {a} {{}}." for q in ("graffiti", "art", "itap") for a in ("a", "the")} | {"itap of my {}."},
        {f"{a} {{}} in a video game." for a in ("a", "the")},
    ]
    assert [len(group) for group in groups] == [22, 16, 5, 12, 16, 7, 2]
    assert set(templates("imagenet80")) == set().union(*groups)
    assert all(sentence.endswith(".") for sentence in templates("imagenet80"))


def test_well_known_sentences_are_among_the_80() -> None:
    known = {"itap of a {}.", "a photo of a hard to see {}.", "a origami {}.", "a jpeg corrupted photo of the {}."}
    assert known <= set(templates("imagenet80"))


def test_maskclip_adds_five_to_the_80() -> None:
    assert set(templates("maskclip85")) - set(templates("imagenet80")) == {
        "there is a {} in the scene.",
        "there is the {} in the scene.",
        "this is a {} in the scene.",
        "this is the {} in the scene.",
        "this is one {} in the scene.",
    }


def test_the_14_of_zsseg_end_with_a_stop_where_its_code_has_one() -> None:
    without = {sentence for sentence in templates("vild14") if not sentence.endswith(".")}
    assert without == {
        "This is a photo of a {}",
        "There is a {} in the scene",
        "There is the {} in the scene",
        "a photo of a {} in the scene",
    }
    assert sum("medium" in sentence for sentence in templates("vild14")) == 3


def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\n a satellite view of {} \n\n{}\n{}\n", encoding="utf-8")
    assert templates(path) == ("a satellite view of {}", "{}")
    assert templates(str(path)) == templates(path)


def test_a_line_without_a_place_for_the_word_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a {}\na photo\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"line 2 .*'a photo'"):
        templates(path)


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe{}"])
def test_an_empty_or_unreadable_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(SettingError, match=r"mine\.txt"):
        templates(tmp_path / "mine.txt")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="imagenet80"):
        templates("imagenet8")
    with pytest.raises(SettingError, match=r"absent\.txt"):
        templates("absent.txt")
