from __future__ import annotations

import json
from pathlib import Path

import official_trees as trees
import pytest

from lexiseg import catalog
from lexiseg.benchmarks._check import check
from lexiseg.errors import DataError, UnknownName

VOC = [[0, 1, 255]]


def test_an_empty_folder_lacks_every_part_and_is_told_how_it_should_look(data: Path) -> None:
    report = check("voc20", data)
    assert not report.complete
    assert [(item.what, item.found, item.expected) for item in report.items] == [
        ("list of val images", 0, 1),
        ("photographs", 0, 1449),
        ("label maps", 0, 1449),
    ]
    text = str(report)
    for wanted in ("NOT COMPLETE", "VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012/", "host.robots.ox.ac.uk"):
        assert wanted in text


def test_single_missing_files_are_counted_and_named(data: Path) -> None:
    trees.voc(data, VOC, key="2007_000033")
    keys = [f"2007_{number:06}" for number in range(33, 43)]
    trees.text(data / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", *keys)
    report = check("voc21", data)
    photographs = next(item for item in report.items if item.what == "photographs")
    assert (photographs.found, photographs.expected) == (1, 10)
    assert photographs.missing[0] == "VOCdevkit/VOC2012/JPEGImages/2007_000034.jpg"
    assert "1 of 10 in VOCdevkit/VOC2012/JPEGImages" in str(report)
    assert ", ..." in str(report)


def test_a_split_with_fewer_images_than_the_official_one_is_not_complete(data: Path) -> None:
    trees.voc(data, VOC)
    report = check("voc20", data)
    assert all(item.complete for item in report.items)
    assert not report.complete
    assert report.problems == ("the split has 1 images, the official one has 1,449",)


def test_a_folder_of_ones_own_is_complete_with_any_number(data: Path) -> None:
    trees.photo(data / "images" / "a.jpg", VOC)
    trees.png(data / "masks" / "a.png", VOC)
    trees.write_json(data / "classes.json", ["road", "car"])
    report = check("folder", data)
    assert report.complete
    assert "complete" in str(report)


def test_what_is_not_used_is_counted(data: Path) -> None:
    for name in ("a", "b"):
        trees.photo(data / "images" / f"{name}.jpg", VOC)
    (data / "images" / "c.nef").touch()
    trees.png(data / "masks" / "a.png", VOC)
    trees.write_json(data / "classes.json", ["road", "car"])
    report = check("folder", data)
    assert report.complete
    assert report.left_out == "1 camera raw (convert to JPEG or PNG), 1 without a label map"
    assert f"left out: {report.left_out}" in str(report)
    assert report.to_json()["left_out"] == report.left_out


def test_a_url_is_not_a_folder() -> None:
    with pytest.raises(DataError, match=r"https://example.com/d is a URL, and lexiseg reads local files"):
        check("folder", "https://example.com/d")


def test_the_form_of_which_most_is_there_is_reported(data: Path) -> None:
    trees.context_mmseg(data, VOC)
    (data / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt").unlink()
    trees.photo(data / "VOCdevkit/VOC2010/JPEGImages/2008_000002.jpg", VOC)
    (data / "VOCdevkit/VOC2010/ImageSets/Main/val.txt").unlink()
    assert check("context59", data).layout == "PNGs converted by mmsegmentation"


def test_a_broken_list_is_a_problem_and_not_a_crash(data: Path) -> None:
    trees.voc(data, VOC)
    (data / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n")
    assert any("val.txt is empty" in problem for problem in check("voc20", data).problems)


@pytest.mark.parametrize("name", catalog.names("benchmarks"))
def test_every_benchmark_reports_on_every_split_of_nothing(name: str, tmp_path: Path) -> None:
    from lexiseg.benchmarks._benchmark import get

    for split in get(name).release.splits:
        for root in (tmp_path, tmp_path / "absent"):
            report = check(name, root, split=split)
            assert not report.complete
            assert report.obtain in str(report)
            assert json.loads(json.dumps(report.to_json()))["complete"] is False


def test_names_that_do_not_exist_get_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="'voc20'"):
        check("voc2", tmp_path)
    with pytest.raises(UnknownName, match="'trainaug'"):
        check("voc20", tmp_path, split="trainaugg")
