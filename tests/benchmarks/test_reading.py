"""`data check` opens every photograph and label map: what it counts, and what it finds wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import official_trees as trees
import pytest
from PIL import Image

from lexiseg.benchmarks._check import check
from lexiseg.benchmarks._report import Report
from lexiseg.errors import LexisegError
from lexiseg.evaluation.evaluate import evaluate

ROAD, CAR = 0, 1


@pytest.fixture
def own(data: Path) -> Path:
    """Two photographs: six pixels of road, two of car, one ignored, three of 255."""
    for name, ids in {"a": [[0, 0, 1], [0, 1, 255]], "sub/b": [[0, 0, 0], [255, 255, 255]]}.items():
        trees.photo(data / "images" / f"{name}.jpg", ids)
        trees.png(data / "masks" / f"{name}.png", ids)
    trees.write_json(data / "classes.json", ["road", "car", "sky"])
    return data


def problems(report: Report) -> dict[str, str]:
    """The problem of each photograph that has one."""
    assert report.contents is not None
    return {one.key: one.problem for one in report.contents.worst if one.problem}


def test_pixels_are_counted_by_class(own: Path) -> None:
    contents = check("folder", own).contents
    assert contents is not None
    shares = {entry.name: (entry.share, entry.maps) for entry in contents.classes}
    assert shares == {"road": (pytest.approx(6 / 8), 2), "car": (pytest.approx(2 / 8), 1), "sky": (0, 0)}
    assert (contents.maps, contents.broken) == (2, 0)
    assert contents.unscored == pytest.approx(4 / 12)
    assert contents.ids == {0: 2, 1: 1, 255: 2}
    assert contents.smallest == contents.largest == (2, 3)


def test_the_five_photographs_with_the_most_ignored_pixels_are_named(data: Path) -> None:
    for number in range(7):
        ids = [[255] * number + [0] * (7 - number)]
        trees.photo(data / "images" / f"{number}.jpg", ids)
        trees.png(data / "masks" / f"{number}.png", ids)
    trees.write_json(data / "classes.json", ["road"])
    report = check("folder", data)
    assert report.contents is not None
    assert [(one.key, one.unscored) for one in report.contents.worst] == [
        (str(number), pytest.approx(number / 7)) for number in (6, 5, 4, 3, 2)
    ]
    assert report.complete
    assert " 85.7%  6: ignored" in str(report)


def test_sizes_are_the_smallest_and_the_largest(own: Path) -> None:
    for name, ids in {"c": [[0] * 4] * 3, "d": [[0]]}.items():
        trees.photo(own / "images" / f"{name}.jpg", ids)
        trees.png(own / "masks" / f"{name}.png", ids)
    assert "4 label maps of 1 x 1 to 4 x 3 pixels" in str(check("folder", own))


def _colours(path: Path) -> None:
    Image.new("RGB", (3, 2)).save(path)


def _grey_with_alpha(path: Path) -> None:
    Image.new("LA", (3, 2)).save(path)


def _unlisted(path: Path) -> None:
    trees.png(path, [[0, 3, 77], [0, 0, 0]])


def _other_size(path: Path) -> None:
    trees.png(path, [[0, 1]])


def _broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_colours, "RGB picture"),
        (_grey_with_alpha, "LA picture"),
        (_unlisted, "holds id 3, 77"),
        (_other_size, "must be of one size"),
        (_broken, "masks/a.png is damaged"),
    ],
)
def test_what_cannot_be_scored_is_found_as_evaluate_finds_it(own: Path, spoil: object, said: str) -> None:
    spoil(own / "masks" / "a.png")  # type: ignore[operator]
    report = check("folder", own)
    assert not report.complete
    assert "NOT USABLE" in str(report)
    assert list(problems(report)) == ["a"]
    assert said in problems(report)["a"]
    assert "1 of 2 photographs cannot be scored" in " ".join(report.problems)
    with pytest.raises(LexisegError):
        evaluate("maskclip/tiny", "folder", data=own, device="cpu")


def test_a_photograph_that_is_broken_is_found(own: Path) -> None:
    (own / "images" / "a.jpg").write_bytes((own / "images" / "a.jpg").read_bytes()[:300])
    assert "images/a.jpg" in problems(check("folder", own))["a"]


def test_ids_that_the_list_lacks_are_counted(own: Path) -> None:
    _unlisted(own / "masks" / "a.png")
    report = check("folder", own)
    assert report.contents is not None
    assert report.contents.unlisted == (3, 77)
    assert "label maps hold ids that the class list lacks: 3 (in 1), 77 (in 1)" in " ".join(report.problems)


def test_label_maps_that_are_all_ignored_are_a_problem(own: Path) -> None:
    for name in ("a", "sub/b"):
        trees.png(own / "masks" / f"{name}.png", [[255] * 3] * 2)
    report = check("folder", own)
    assert "no pixel of any label map is scored" in " ".join(report.problems)
    with pytest.raises(LexisegError, match="no class that occurs"):
        evaluate("maskclip/tiny", "folder", data=own)


@pytest.mark.parametrize("content", [[], {}, ["road", "road"], {"0": "road", "1": "Road"}])
def test_lists_that_name_no_class_or_one_twice_are_a_problem(own: Path, content: object) -> None:
    trees.write_json(own / "classes.json", content)
    report = check("folder", own)
    assert not report.complete
    assert report.problems
    with pytest.raises(LexisegError):
        evaluate("maskclip/tiny", "folder", data=own)


def test_two_photographs_of_one_name_are_a_problem(own: Path) -> None:
    Image.new("RGB", (3, 2)).save(own / "images" / "a.png")
    assert "have the same name" in " ".join(check("folder", own).problems)


def test_nothing_is_opened_when_only_files_are_looked_for(own: Path) -> None:
    _broken(own / "masks" / "a.png")
    report = check("folder", own, read=False)
    assert report.complete
    assert report.contents is None


def test_progress_is_told(own: Path) -> None:
    told: list[tuple[int, int]] = []
    check("folder", own, progress=lambda done, files: told.append((done, files)))
    assert told == [(1, 2), (2, 2)]


def test_official_label_maps_are_read_as_their_benchmark_means_them(data: Path) -> None:
    trees.voc(data, [[0, 1, 255], [15, 15, 0]])
    found = {name: check(name, data).contents for name in ("voc20", "voc21")}
    shares = {
        name: {entry.name: entry.share for entry in contents.classes if entry.share}
        for name, contents in found.items()
        if contents is not None
    }
    assert shares["voc20"] == {"aeroplane": pytest.approx(1 / 3), "person": pytest.approx(2 / 3)}
    assert shares["voc21"] == {
        "aeroplane": pytest.approx(1 / 5), "person": pytest.approx(2 / 5), "background": pytest.approx(2 / 5)
    }  # fmt: skip


def test_what_stands_for_the_background_is_said(own: Path) -> None:
    trees.write_json(own / "classes.json", ["road", "car", "background"])
    report = check("folder", own)
    assert "road" not in report.background
    assert {"sky", "tree"} < {*report.background}
    assert f"background: {len(report.background)} words stand for it (sky, " in str(report)
    trees.write_json(own / "classes.json", ["road", "car", "background|sky|sea"])
    assert check("folder", own).background == ("sky", "sea")
    trees.write_json(own / "classes.json", ["road", "car", "sky"])
    assert not check("folder", own).background


def test_the_json_holds_all_of_it(own: Path) -> None:
    content = check("folder", own).to_json()
    assert content["contents"]["classes"][0] == {"name": "road", "share": pytest.approx(6 / 8), "maps": 2}
    assert content["contents"]["worst"][0]["key"] == "sub/b"
    assert np.isclose(content["contents"]["worst"][0]["unscored"], 0.5)
