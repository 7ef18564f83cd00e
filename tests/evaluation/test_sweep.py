"""sweep: as evaluating each combination on its own, with each photograph embedded as seldom as possible."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.pictures import noise
from lexiseg import catalog
from lexiseg.errors import SettingError, UnknownName
from lexiseg.evaluation.counting import Counting
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.sweep import Sweep, sweep, values


def of(data: Path, grid: Mapping[str, Sequence[Any]], **arguments: Any) -> Sweep:
    setup = Setup(Model("colours/plain", device="cpu", dtype="fp32"), "folder", data)
    return sweep(setup, grid, **arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Random colours with white among them, and a background."""
    root = noise(tmp_path / "data", 5)
    (root / "classes.json").write_text(json.dumps(["red", "green", "background"]))
    for path in (root / "images").iterdir():
        picture = Image.open(path)
        picture.paste((200, 180, 190), (0, 0, 6, 6))
        picture.save(path)
    return root


def test_every_combination_scores_as_on_its_own(data: Path) -> None:
    grid = {"threshold": [0.2, 0.6], "swap": [False, True], "scale": [2.0, 10.0], "background": ["white", "none"]}
    found = of(data, grid)
    assert len(found.points) == 16
    for point in found.points:
        chosen = dict(point.settings)
        background = chosen.pop("background")
        alone = evaluate(
            "colours/plain", "folder", data=data, device="cpu", dtype="fp32",
            background=None if background == "none" else background, **chosen,
        )  # fmt: skip
        assert point.scores == alone.scores, point.settings


def test_texts_are_read_as_their_settings(data: Path) -> None:
    texts = of(data, {"threshold": ["0.2", "0.6"], "swap": ["true"]})
    numbers = of(data, {"background_threshold": [0.2, 0.6], "swap": [True]})
    assert [point.scores for point in texts.points] == [point.scores for point in numbers.points]


@pytest.mark.parametrize(
    ("grid", "times"),
    [
        ({"threshold": [0.1, 0.2, 0.3], "prompts": ["single", "vild14"], "scale": [1, 2]}, 1),
        ({"threshold": [0.1, 0.2, 0.3], "swap": [False, True]}, 2),
    ],
)
def test_photographs_are_embedded_once_for_each_setting_that_the_picture_sees(
    data: Path, monkeypatch: pytest.MonkeyPatch, grid: Mapping[str, Sequence[Any]], times: int
) -> None:
    module = catalog.get("methods", "colours")
    embedded, embed = [], module.Colours.embed_image

    def counting(self: Any, images: Any) -> Any:
        embedded.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(module.Colours, "embed_image", counting)
    found = of(data, grid)
    assert sum(embedded) == 5 * times
    assert found.embedded == times


def test_points_are_in_the_order_of_the_grid_and_the_best_is_found(data: Path) -> None:
    found = of(data, {"swap": [True, False], "threshold": [0.1, 0.9]})
    assert [tuple(point.settings.values()) for point in found.points] == [
        (True, 0.1), (True, 0.9), (False, 0.1), (False, 0.9)
    ]  # fmt: skip
    best = found.best()
    assert best.scores["miou"].value == max(point.scores["miou"].value for point in found.points)
    assert best.settings["swap"] is False


def test_tuning_on_the_reported_photographs_is_warned_of(data: Path) -> None:
    assert "inflates the score" in of(data, {"threshold": [0.5]}).warnings[0]


def test_unreadable_photographs_are_counted_when_allowed(data: Path) -> None:
    (data / "images" / "000.png").write_bytes(b"")
    found = of(data, {"threshold": [0.5]}, counting=Counting(allow_skipped=True))
    assert (found.images, list(found.skipped)) == (4, ["000"])


def test_progress_runs_through_all_groups(data: Path) -> None:
    told: list[tuple[int, int]] = []
    of(data, {"swap": [False, True]}, progress=lambda done, images: told.append((done, images)))
    assert told[0] == (1, 10)
    assert told[-1] == (10, 10)


def test_settings_that_do_not_exist_are_named(data: Path) -> None:
    with pytest.raises(UnknownName, match="treshold"):
        of(data, {"treshold": [0.5]})
    with pytest.raises(SettingError, match="nothing to sweep"):
        of(data, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1:0.9:0.1", ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]),
        ("1:10:4", ["1", "5", "9"]),
        ("single, imagenet80", ["single", "imagenet80"]),
        ("0.5", ["0.5"]),
        ("0.3:0.1:-0.1", ["0.3", "0.2", "0.1"]),
    ],
)
def test_values_are_lists_or_ranges_with_both_ends(text: str, expected: list[str]) -> None:
    assert values(text) == expected


@pytest.mark.parametrize("text", ["", ",", "1:2", "a:b:c", "1:2:0", "2:1:1", "1:2:nan"])
def test_other_texts_are_no_values(text: str) -> None:
    with pytest.raises(SettingError):
        values(text)
