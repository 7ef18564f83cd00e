"""compare: first what differs, then by how much, and only where it means something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.pictures import noise
from lexiseg.evaluation.compare import compare
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.result import Result


def of(data: Path, model: str = "colours/plain", **arguments: Any) -> Result:
    return evaluate(model, "folder", data=data, device="cpu", dtype="fp32", **arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return noise(tmp_path / "data", 12)


def test_what_is_the_same_has_no_differences(data: Path) -> None:
    found = compare(of(data), of(data))
    assert (found.settings, found.circumstances, found.reason) == ([], [], "")
    gap = found.scores["miou"]
    assert (gap.value, gap.low, gap.high, gap.wins) == (0, 0, 0, 0.5)


def test_settings_that_differ_are_named_with_both_values(data: Path) -> None:
    settings = {key: values for key, *values in compare(of(data), of(data, "colours/swapped")).settings}
    assert settings["model"] == ["colours/plain", "colours/swapped"]
    assert settings["settings.config.swap"] == [False, True]
    assert "words" not in settings


def test_the_difference_is_paired(data: Path) -> None:
    first, second = of(data), of(data, "colours/swapped")
    gap = compare(first, second).scores["miou"]
    assert gap.value == pytest.approx(first["miou"] - second["miou"])
    assert 0 < gap.low <= gap.value <= gap.high
    assert gap.wins == 1
    assert compare(second, first).scores["miou"].value == pytest.approx(-gap.value)


def test_results_read_from_files_compare_the_same(data: Path, tmp_path: Path) -> None:
    of(data, out=tmp_path / "a.json"), of(data, scale=2, out=tmp_path / "b.json")
    files = Result.load(tmp_path / "a.json"), Result.load(tmp_path / "b.json")
    assert [key for key, *_ in compare(*files).settings] == ["settings.config.scale"]


def test_other_images_do_not_compare(data: Path) -> None:
    found = compare(of(data), of(data, limit=5))
    assert "7 images were scored in one of them only" in found.reason
    assert not found.scores
    assert ("counting.limit", None, 5) in found.settings


def test_other_classes_and_other_truth_do_not_compare(data: Path, tmp_path: Path) -> None:
    other = noise(tmp_path / "other", 12, seed=1)
    assert "ground truth of '000' is not the same" in compare(of(data), of(other)).reason
    (other / "classes.json").write_text('["red", "green", "yellow"]')
    assert "classes differ (3 and 3" in compare(of(data), of(other)).reason
