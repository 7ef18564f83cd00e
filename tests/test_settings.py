"""Settings reach a frozen dataclass by name, with the right type or an error that names them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg import settings
from lexiseg.errors import SettingError, UnknownName


@dataclass(frozen=True)
class Optimiser:
    rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Recipe:
    name: str = "toy"
    steps: int = 10
    window: int | None = None
    size: tuple[int, int] | None = None
    templates: tuple[str, ...] = ()
    flip: bool = False
    blend: Literal["features", "logits"] = "features"
    folder: Path | None = None
    optimiser: Optimiser = Optimiser()
    stages: tuple[Optimiser, ...] = ()
    teacher: Optimiser | None = None


finite = st.floats(allow_nan=False, allow_infinity=False)
optimisers = st.builds(Optimiser, finite, st.tuples(finite, finite))
recipes = st.builds(
    Recipe,
    name=st.text(),
    steps=st.integers(),
    window=st.none() | st.integers(),
    size=st.none() | st.tuples(st.integers(), st.integers()),
    templates=st.lists(st.text()).map(tuple),
    flip=st.booleans(),
    blend=st.sampled_from(["features", "logits"]),
    folder=st.none() | st.just(Path("data/images")),
    optimiser=optimisers,
    stages=st.lists(optimisers, max_size=2).map(tuple),
    teacher=st.none() | optimisers,
)


@given(recipes)
def test_json_gives_back_an_equal_value(recipe: Recipe) -> None:
    text = json.dumps(settings.to_json(recipe))
    assert settings.from_json(Recipe, json.loads(text)) == recipe


@given(recipes)
def test_setting_every_field_of_a_default_by_name_gives_the_whole(recipe: Recipe) -> None:
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Recipe)}
    before = Recipe()
    assert settings.change(before, fields) == recipe
    assert before == Recipe()


@given(st.integers(), finite, st.booleans(), st.tuples(st.integers(), st.integers()))
def test_texts_of_a_command_line_are_read_as_the_type_of_the_field(
    steps: int, rate: float, flip: bool, size: tuple[int, int]
) -> None:
    given = settings.parse(
        [f"steps={steps}", f"optimiser.rate={rate!r}", f"flip={str(flip).lower()}", f"size={size[0]},{size[1]}"]
    )
    changed = settings.change(Recipe(), given)
    assert changed == Recipe(steps=steps, optimiser=Optimiser(rate=rate), flip=flip, size=size)


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("window=none", None),
        ("window=null", None),
        ("name=none", "none"),  # a text stays one
        ("name=5", "5"),
        ("name=", ""),
        ("name=a=b", "a=b"),
        ("steps=1e3", 1000),
        ("flip=yes", True),
        ("flip=0", False),
        ("size=[3, 4]", (3, 4)),
        ("templates=a photo of {}", ("a photo of {}",)),
        ("templates=one, two", ("one", "two")),
        ("templates=", ()),
        ("folder=a/b", Path("a/b")),
        ('teacher={"rate": 2}', Optimiser(rate=2)),
    ],
)
def test_a_text_means_what_the_field_can_hold(assignment: str, value: object) -> None:
    ((key, text),) = settings.parse([assignment]).items()
    assert getattr(settings.change(Recipe(), {key: text}), key) == value


def test_a_path_is_taken_for_its_text_where_a_text_is_wanted() -> None:
    assert settings.change(Recipe(), {"name": Path("a/b.txt")}).name == str(Path("a/b.txt"))
    assert settings.change(Recipe(), {"folder": Path("a")}).folder == Path("a")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("steps", "abc", "steps='abc' does not fit int: Input should be a valid integer"),
        ("steps", "2.5", "fractional part"),
        ("steps", "true", "true and false are no numbers"),
        ("steps", True, "true and false are no numbers"),
        ("steps", None, "does not fit int"),
        ("flip", "5", "does not fit bool"),
        ("size", "512", "does not fit"),
        ("size", (1, 2, 3), "does not fit"),
        ("blend", "pixels", "'features' or 'logits'"),
        ("optimiser", "5", "does not fit Optimiser"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_says_key_value_and_type(key: str, value: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says) as caught:
        settings.change(Recipe(), {key: value})
    assert str(caught.value).startswith(f"{key}={value!r}")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("step", "'steps'"),
        ("optimizer.rate", "'optimiser.rate'"),
        ("optimiser.rates", "'optimiser.rate'"),
        ("optimiser.", "'optimiser'"),
        ("steps.more", "'steps'"),
        ("teacher.rate", "'optimiser.rate'"),  # there is no teacher to change
    ],
)
def test_a_key_that_does_not_exist_offers_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match=f"no setting is called '{key}'.*{nearest}"):
        settings.change(Recipe(), {key: 1})


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"optimiser": {"rte": 1}}, "optimiser.rte"),
        ({"stages": [{"rate": 1}, {"rte": 1}]}, "stages.rte"),
    ],
)
def test_a_key_that_nobody_reads_is_refused_however_deep(data: dict[str, Any], key: str) -> None:
    with pytest.raises(UnknownName, match=f"no setting is called '{key}'"):
        settings.from_json(Recipe, data)


def test_a_key_that_nobody_reads_is_refused_inside_a_setting_too() -> None:
    with pytest.raises(UnknownName, match=r"optimiser\.rte"):
        settings.change(Recipe(), {"optimiser": '{"rte": 1}'})


@pytest.mark.parametrize("data", [{"steps": "many"}, {"optimiser": 5}, 5, [1]])
def test_json_of_the_wrong_shape_is_a_setting_error(data: Any) -> None:
    with pytest.raises(SettingError, match="Recipe cannot be read"):
        settings.from_json(Recipe, data)


@dataclass(frozen=True)
class Range:
    """Checks itself, as a whole."""

    low: int = 0
    high: int = 10

    def __post_init__(self) -> None:
        settings.require(self.low <= self.high, "low", f"at most {self.high}", self.low)


@dataclass(frozen=True)
class Ranges:
    first: Range = Range()


@pytest.mark.parametrize("given", [{"low": 20, "high": 30}, {"high": 30, "low": 20}])
def test_settings_that_go_together_are_changed_together(given: dict[str, int]) -> None:
    assert settings.change(Range(), given) == Range(20, 30)
    nested = {f"first.{key}": value for key, value in given.items()}
    assert settings.change(Ranges(), nested) == Ranges(Range(20, 30))


def test_what_a_dataclass_says_about_its_values_is_the_whole_message() -> None:
    for way in (
        lambda: settings.change(Range(), {"low": "20"}),
        lambda: settings.change(Ranges(), {"first": {"low": 20}}),
        lambda: settings.from_json(Ranges, {"first": {"low": 20}}),
    ):
        with pytest.raises(SettingError, match=r"^low must be at most 10, got 20$"):
            way()


@pytest.mark.parametrize("assignment", ["steps", "", "=5", " = 5"])
def test_an_assignment_without_key_or_equals_is_refused(assignment: str) -> None:
    with pytest.raises(SettingError, match="write key=value"):
        settings.parse([assignment])


def test_names_lists_every_key_that_change_understands() -> None:
    names = settings.names(Recipe())
    assert names[:2] == ["name", "steps"]
    assert {"optimiser", "optimiser.rate", "optimiser.betas"} <= set(names)
    for name in names:
        value = Recipe()
        for part in name.split("."):
            value = getattr(value, part)
        assert settings.change(Recipe(), {name: value}) == Recipe()
