from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lexiseg.encoders.prompts import Prompts, names
from lexiseg.errors import SettingError, UnknownName, WeightsError


def sentences(name: str | Path) -> tuple[str, ...]:
    prompts = Prompts.open(name)
    assert prompts.context is None
    return prompts.sentences


def test_the_sets_have_the_sizes_that_their_papers_say() -> None:
    assert {name: len(sentences(name)) for name in names()} == {
        "single": 1,
        "imagenet80": 80,
        "maskclip85": 85,
        "vild14": 14,
    }


@pytest.mark.parametrize("name", names())
def test_no_sentence_is_there_twice_and_each_has_one_place_for_the_word(name: str) -> None:
    found = sentences(name)
    assert len(set(found)) == len(found)
    assert all(sentence.count("{}") == 1 for sentence in found)


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
    assert set(sentences("imagenet80")) == set().union(*groups)
    assert all(sentence.endswith(".") for sentence in sentences("imagenet80"))


def test_well_known_sentences_are_among_the_80() -> None:
    known = {"itap of a {}.", "a photo of a hard to see {}.", "a origami {}.", "a jpeg corrupted photo of the {}."}
    assert known <= set(sentences("imagenet80"))


def test_maskclip_adds_five_to_the_80() -> None:
    assert set(sentences("maskclip85")) - set(sentences("imagenet80")) == {
        "there is a {} in the scene.",
        "there is the {} in the scene.",
        "this is a {} in the scene.",
        "this is the {} in the scene.",
        "this is one {} in the scene.",
    }


def test_the_14_of_zsseg_end_with_a_stop_where_its_code_has_one() -> None:
    without = {sentence for sentence in sentences("vild14") if not sentence.endswith(".")}
    assert without == {
        "This is a photo of a {}",
        "There is a {} in the scene",
        "There is the {} in the scene",
        "a photo of a {} in the scene",
    }
    assert sum("medium" in sentence for sentence in sentences("vild14")) == 3


def test_a_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("# mine\n a satellite view of {} \n\n{}\n{}\n", encoding="utf-8")
    assert sentences(path) == ("a satellite view of {}", "{}")
    assert sentences(str(path)) == sentences(path)


def test_a_line_without_a_place_for_the_word_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("a {}\na photo\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"line 2 .*'a photo'"):
        sentences(path)


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe{}"])
def test_an_empty_or_unreadable_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(SettingError, match=r"mine\.txt"):
        sentences(tmp_path / "mine.txt")


def test_a_sentence_is_a_set_of_its_own() -> None:
    assert sentences("a sculpture of a {}.") == ("a sculpture of a {}.",)
    assert sentences("a {}/b.txt") == ("a {}/b.txt",)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="imagenet80"):
        sentences("imagenet8")
    with pytest.raises(SettingError, match=r"absent\.txt"):
        sentences("absent.txt")


# --- as a value


def test_a_word_is_put_into_every_sentence() -> None:
    assert Prompts(("a photo of a {}.", "{} and {}"))("cat") == ["a photo of a cat.", "cat and cat"]
    assert Prompts(context=torch.ones(2, 3))("cat") == ["cat"]


def test_learned_prompts_survive_a_file(tmp_path: Path) -> None:
    context = torch.randn(16, 8)
    for prompts in (
        Prompts(context=context),
        Prompts(("{}.",), context, word_at=4),
        Prompts(("a {}", "the {}"), context.half(), word_at=0),
    ):
        prompts.save(tmp_path / "learned.safetensors")
        again = Prompts.open(tmp_path / "learned.safetensors")
        assert again == prompts
        assert (again.sentences, again.word_at) == (prompts.sentences, prompts.word_at)
        assert prompts.context is not None
        assert torch.equal(again.context, prompts.context.float())  # type: ignore[arg-type]


def test_sentences_survive_a_file(tmp_path: Path) -> None:
    prompts = Prompts.open("vild14")
    prompts.save(tmp_path / "mine.txt")
    assert Prompts.open(tmp_path / "mine.txt") == prompts


def test_prompts_are_equal_where_they_make_the_same_of_every_word() -> None:
    context = torch.randn(3, 4)
    different = [
        Prompts(("{}",)),
        Prompts(("{}.",)),
        Prompts(("{}", "{}.")),
        Prompts(context=context),
        Prompts(context=context, word_at=1),
        Prompts(context=context.reshape(4, 3)),
        Prompts(context=context + 1),
    ]
    assert len({prompts.digest for prompts in different}) == len(different) == len(set(different))
    assert Prompts(context=context) == Prompts(("{}",), context.clone(), word_at=3)
    assert Prompts(("{}",)) != ("{}",)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "there are no prompts"),
        ({"sentences": ("a photo",)}, "'a photo' has no {}"),
        ({"context": torch.ones(3)}, r"this one is \[3\] of float32"),
        ({"context": torch.ones(2, 3, 4)}, "one context serves every word"),
        ({"context": torch.ones(2, 3, dtype=torch.long)}, "of int64"),
        ({"context": torch.ones(0, 3)}, r"\[0, 3\]"),
        ({"context": torch.full((2, 3), float("nan"))}, "not finite"),
        ({"context": torch.ones(2, 3), "word_at": 3}, "word_at is 3; give a place among the 2 vectors"),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Prompts(**given)


def test_the_name_of_a_file_says_which_kind_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="sentences go into a text file"):
        Prompts(("{}",)).save(tmp_path / "a.safetensors")
    with pytest.raises(SettingError, match=r"end it with \.safetensors"):
        Prompts(context=torch.ones(2, 3)).save(tmp_path / "a.txt")


def test_files_that_hold_no_learned_prompts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("a photo of a {}")
    with pytest.raises(WeightsError, match="cannot be read as learned prompts"):
        Prompts.open(path)
    save_file({"weight": torch.ones(2, 3)}, path)
    with pytest.raises(WeightsError, match="holds weight, not the tensor 'context'"):
        Prompts.open(path)
    for wrong in ({"word_at": '"first"'}, {"sentences": "[1]"}, {"sentences": "5"}, {"word_at": "{"}):
        save_file({"context": torch.ones(2, 3)}, path, metadata=wrong)
        with pytest.raises(WeightsError, match="cannot be read as learned prompts"):
            Prompts.open(path)
    save_file({"context": torch.ones(2, 3)}, path, metadata={"sentences": '["a photo"]'})
    with pytest.raises(SettingError, match=r"a\.safetensors: 'a photo' has no"):
        Prompts.open(path)
    save_file({"context": torch.ones(2, 3)}, path)  # as anybody may write it
    assert Prompts.open(path) == Prompts(context=torch.ones(2, 3))
