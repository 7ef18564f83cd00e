"""evaluate: numbers that are right, the same however they came about, with all that decides them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.pictures import TWO, folder, noise
from lexiseg.errors import DataError, LexisegError, OutputError, SettingError
from lexiseg.evaluation.counting import Counting, Keep
from lexiseg.evaluation.evaluate import evaluate, measure
from lexiseg.evaluation.pipeline import Corruption
from lexiseg.evaluation.protocols import Protocol
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.evaluation.subject import prepare
from lexiseg.inference.predictor import Predictor
from lexiseg.vocabulary import Vocabulary

ABSENT = "went to classes that are in no label map, which count with 0"
CHILD = Path(__file__).parent / "child.py"
MASKS_VAL = Path(__file__).parents[3] / "shared" / "data" / "masks-val"


def of(data: Path, **arguments: Any) -> Result:
    return evaluate("colours/plain", "folder", data=data, device="cpu", dtype="fp32", **arguments)


def test_scores_are_those_counted_by_hand(two: Path) -> None:
    result = of(two)
    assert result["miou"] == pytest.approx((4 / 6 + 2 / 5 + 2 / 3) / 3)
    assert result["pixel_accuracy"] == pytest.approx(8 / 11)
    assert result["mean_accuracy"] == pytest.approx((4 / 4 + 2 / 5 + 2 / 2) / 3)
    assert result["frequency_weighted_iou"] == pytest.approx((4 * 4 / 6 + 5 * 2 / 5 + 2 * 2 / 3) / 11)
    assert {name: entry.pixels for name, entry in result.classes.items()} == {"red": 4, "green": 5, "blue": 2}
    assert result.images == 2
    assert result.scores["miou"].low <= result["miou"] <= result.scores["miou"].high


def test_files_that_are_not_used_are_said(two: Path) -> None:
    (two / "images" / "three.png").write_bytes((two / "images" / "two.png").read_bytes())
    (two / "images" / "four.nef").touch()
    result = of(two)
    assert result.images == 2
    said = "files that were left out: 1 camera raw (convert to JPEG or PNG), 1 without a label map"
    assert said in result.warnings


def test_pixels_left_unlabelled_count_for_the_background_where_it_is_scored(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rrww",), ("rwww",))}, classes=("red", "green", "background"))
    (data / "classes.json").write_text(json.dumps(["red", "green", "background", "white"]))
    # white is background in the label map
    Image.fromarray(np.array([[0, 2, 2, 2]], np.uint8)).save(data / "masks" / "one.png")
    result = of(data, background="white, blue")
    assert list(result.classes) == ["red", "background"]
    assert result["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert not result.warnings


def test_a_method_that_weighs_seen_and_unseen_classes_is_scored_by_both(tmp_path: Path) -> None:
    """ZSSeg with random weights: its ensemble hears from the benchmark which classes were seen."""
    data = noise(tmp_path / "data", 3)
    subject = prepare(Setup(Model("zsseg/tiny", device="cpu", dtype="fp32"), "folder", data))
    results = []
    for seen in ((True, False, True), (False, True, False)):
        flags = dataclasses.replace(
            subject.opened,
            subsets={"seen": tuple(np.flatnonzero(seen)), "unseen": tuple(np.flatnonzero(np.logical_not(seen)))},
        )
        words = Vocabulary(subject.vocabulary, seen=seen)
        results.append(measure(dataclasses.replace(subject, opened=flags, vocabulary=words), Counting()))
    for result in results:
        one, other = result["miou_seen"], result["miou_unseen"]
        assert result["hiou"] == pytest.approx(2 * one * other / (one + other) if one + other else 0)
        assert 0 <= result["pixel_accuracy"] <= 1
    assert results[0]["pixel_accuracy"] != results[1]["pixel_accuracy"]


def test_seen_and_unseen_classes_are_told_apart(two: Path) -> None:
    subject = prepare(Setup(Model("colours/plain", device="cpu", dtype="fp32"), "folder", two))
    opened = dataclasses.replace(subject.opened, subsets={"seen": (0, 2), "unseen": (1,)})
    result = measure(dataclasses.replace(subject, opened=opened), Counting())
    assert result["miou_seen"] == pytest.approx(2 / 3)
    assert result["miou_unseen"] == pytest.approx(2 / 5)
    assert result["hiou"] == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert result.subsets == {"seen": [0, 2], "unseen": [1]}


def test_lexiseg_asks_for_everyday_words_where_a_background_is_scored(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rgw",), ("rgb",))})
    (data / "classes.json").write_text(json.dumps(["red", "green", "background"]))
    result = of(data)
    assert result.facts["protocol"]["background"] == "auto"
    assert result.facts["protocol"]["background_words"][:3] == ["sky", "wall", "tree"]
    assert result["miou"] == 1  # to this model "sky" and all the others are white
    assert of(data, background_threshold=0.9).facts["protocol"]["background"] is None


def test_a_background_that_is_never_predicted_is_a_warning(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rrgg",), ("rrgg",))})
    (data / "classes.json").write_text(json.dumps({"0": "red", "1": "background"}))
    assert "no pixel was left to the background" in " ".join(of(data, background="blue").warnings)


@pytest.mark.parametrize(("words", "iou", "miou"), [("blue", None, 1.0), ("yellow", 0.0, (1 / 2 + 1 + 0) / 3)])
def test_a_background_in_no_label_map_counts_only_where_it_is_predicted(
    tmp_path: Path, words: str, iou: float | None, miou: float
) -> None:
    data = folder(tmp_path / "data", {"one": (("rrgg",), ("rrgg",)) if iou is None else (("ryg",), ("rrg",))})
    (data / "classes.json").write_text(json.dumps(["red", "green", "background"]))
    result = of(data, background=words)
    assert result["miou"] == pytest.approx(miou)
    assert json.loads(result.dumps())["classes"]["background"]["iou"] == iou
    said = [line for line in result.warnings if "in no label map" in line]
    assert said == ([] if iou is None else [f"{100 / 3:.1f} % of the pixels {ABSENT}: background"])


def test_any_class_in_no_label_map_counts_only_where_it_is_predicted(two: Path) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", "blue", "yellow", "white"]))
    picture = np.asarray(Image.open(two / "images" / "one.png")).copy()
    picture[0, 0] = (255, 255, 0)
    Image.fromarray(picture).save(two / "images" / "one.png")
    result = of(two, options={"classes": "all"})
    assert result.warnings == [f"{100 / 11:.1f} % of the pixels {ABSENT}: yellow"]
    assert result.classes["yellow"].iou == 0
    assert np.isnan(result.classes["white"].iou)
    assert result["miou"] == pytest.approx(sum(result.classes[name].iou for name in ("red", "green", "blue")) / 4)


def test_words_of_a_class_never_stand_for_the_background(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rgw",), ("rgb",))})
    (data / "classes.json").write_text(json.dumps(["red", "Wall|Sky", "background"]))
    words = of(data).facts["protocol"]["background_words"]
    assert "tree" in words
    assert not {"wall", "sky", "cloud"} & {*words}  # nor what is much the same
    assert {"wall", "sky"} & {*of(data, background="sclip").facts["protocol"]["background_words"]} == set()
    assert of(data, background="green, SKY, blue").facts["protocol"]["background_words"] == ["green", "blue"]
    assert of(data, background="none").facts["protocol"]["background_words"] == []


def test_words_that_classes_json_gives_the_background_stand_for_it(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rgw",), ("rgb",))})
    (data / "classes.json").write_text(json.dumps(["red", "green", "background|white|yellow"]))
    result = of(data)
    assert result.facts["protocol"]["background_words"] == ["white", "yellow"]
    assert result["miou"] == 1
    assert of(data, background="blue").facts["protocol"]["background_words"] == ["blue"]
    (data / "classes.json").write_text(
        json.dumps({"classes": ["red", "green", "background"], "background": ["white", "yellow"]})
    )
    assert of(data).facts["protocol"] == result.facts["protocol"]


@pytest.mark.parametrize("name", ["_background_", "other", "unlabeled", "VOID"])
def test_a_class_that_may_be_none_is_asked_about(two: Path, name: str) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", name]))
    assert f"is {name!r} a class?" in " ".join(of(two).warnings)


def test_words_for_a_background_that_is_not_scored_are_refused(two: Path) -> None:
    with pytest.raises(SettingError, match="does not score a background"):
        of(two, background="white")


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_count_the_same(tmp_path: Path, batch_size: int) -> None:
    data = noise(tmp_path / "data", 7)
    assert of(data, batch_size=batch_size).tallies.to_json() == of(data).tallies.to_json()


def test_the_limit_spreads_images_over_the_split(tmp_path: Path) -> None:
    result = of(noise(tmp_path / "data", 9), limit=3)
    assert sorted(result.tallies.confusion.images) == ["000", "003", "006"]
    assert "3 of the 9 images" in result.warnings[0]


def test_an_image_that_cannot_be_read_ends_the_run(two: Path) -> None:
    (two / "images" / "two.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"two cannot be scored: .*two\.png is not a photograph"):
        of(two)


def test_an_image_that_may_be_skipped_is_counted_and_named(two: Path) -> None:
    (two / "images" / "one.png").write_bytes(b"no picture")
    result = of(two, allow_skipped=True)
    assert result.images == 1
    assert list(result.skipped) == ["one"]
    assert "1 images were skipped: one" in result.warnings
    assert result["pixel_accuracy"] == pytest.approx(4 / 6)


def test_skipped_images_do_not_move_the_batches_of_others(tmp_path: Path) -> None:
    data = noise(tmp_path / "data", 8)
    whole = of(data, batch_size=3).tallies.confusion.images
    (data / "images" / "001.png").write_bytes(b"")
    broken = of(data, batch_size=3, allow_skipped=True).tallies.confusion.images
    assert all(np.array_equal(broken[key], whole[key]) for key in broken)
    assert len(broken) == 7


def test_nothing_to_score_is_an_error(two: Path) -> None:
    for key in TWO:
        (two / "images" / f"{key}.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 2 images"):
        of(two, allow_skipped=True)


def test_corruption_is_done_to_the_picture_and_not_to_the_truth(tmp_path: Path) -> None:
    data = noise(tmp_path / "data", 4)
    clean, corrupted = of(data), of(data, corrupt=Corruption("gaussian_noise", 5))
    assert corrupted["miou"] < clean["miou"]
    assert [entry.pixels for entry in corrupted.classes.values()] == [entry.pixels for entry in clean.classes.values()]
    assert corrupted.facts["counting"]["corruption"] == {"kind": "gaussian_noise", "severity": 5, "bgr": False}


def test_own_words_ask_an_image_about_its_own_classes_alone(tmp_path: Path) -> None:
    samples = {
        "two classes": (
            ("rrrrgg",),
            ("bbbbgg",),
        ),  # red is not among its words: white, as if undecided, goes to neither
        "one class": (("rrr",), ("rrr",)),
    }
    result = of(folder(tmp_path / "data", samples), own_words=True)
    assert result.own_words is not None
    assert result.own_words.images == 1
    # red is as far from blue as from green, and the first of two equals wins: green
    assert result.own_words.scores["pixel_accuracy"].value == pytest.approx(2 / 6)
    assert result.own_words.baselines["largest class of each image"]["pixel_accuracy"] == pytest.approx(4 / 6)
    assert result.own_words.baselines["random"]["pixel_accuracy"] == pytest.approx(1 / 2)
    assert result["pixel_accuracy"] == pytest.approx(5 / 9)


def test_boundaries_are_measured_when_asked_for(two: Path) -> None:
    assert "boundary_miou" not in of(two).scores
    # every pixel of so small a picture lies at a border
    assert of(two, boundary=True)["boundary_miou"] == pytest.approx(of(two)["miou"])


def test_the_names_alone_can_be_asked_for(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("yg",), ("rg",))})
    (data / "classes.json").write_text(json.dumps([["red", "yellow"], "green"]))
    assert of(data)["miou"] == 1
    # yellow is as near to red as to green, and red comes first
    names = of(data, wording="names", scale=5)
    assert names.facts["words"] != of(data).facts["words"]
    assert names.facts["settings"]["config"]["scale"] == 5


def test_a_result_says_all_that_decides_it(two: Path) -> None:
    facts = of(two).facts
    assert facts["benchmark"]["class_digest"]
    assert facts["settings"]["weights_digest"]
    assert facts["settings"]["prompts"]
    assert facts["protocol"]["name"] == "lexiseg"
    assert facts["counting"]["batch_size"] == 1
    environment = of(two).environment
    assert environment["versions"]["torch"]
    assert environment["machine"]["cores"] >= 1


def test_weights_that_differ_have_another_hash(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lexiseg import catalog

    first = of(two).facts["settings"]["weights_digest"]
    module = catalog.get("methods", "colours")
    load = module.load

    def changed(variant: Any) -> Any:
        segmenter = load(variant)
        segmenter.colours.data[0, 0] += 1e-6
        return segmenter

    monkeypatch.setattr(module, "load", changed)
    assert of(two).facts["settings"]["weights_digest"] != first


def test_a_result_is_saved_and_read_back(two: Path, tmp_path: Path) -> None:
    result = of(two, own_words=True, boundary=True, out=tmp_path / "result.json")
    again = Result.load(tmp_path / "result.json")
    assert again.to_json() == json.loads(result.dumps())
    assert again["miou"] == result["miou"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("result")] == ["result.json"]


def test_classes_without_pixels_are_null_in_the_json(two: Path) -> None:
    (two / "classes.json").write_text(json.dumps(["red", "green", "blue", "yellow"]))
    result = of(two, options={"classes": "all"})
    content = json.loads(result.dumps(), parse_constant=pytest.fail)
    assert content["classes"]["yellow"] == {"iou": None, "accuracy": None, "pixels": 0}
    assert np.isnan(Result.from_json(content).classes["yellow"].iou)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}'])
def test_other_files_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(DataError, match=r"file\.json"):
        Result.load(tmp_path / "file.json")


def test_a_finished_result_of_the_same_settings_and_data_is_taken(two: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "result.json", []
    first = of(two, out=out)
    again = of(two, out=out, progress=lambda done, _: seen.append(done))
    assert not seen
    assert (first.path, again.path) == (None, out)
    assert again.to_json() == json.loads(first.dumps())


def test_a_result_of_other_settings_is_in_the_way_unless_it_may_be_replaced(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    of(two, out=out)
    with pytest.raises(
        OutputError, match=r"settings\.config\.scale was 10\.0 and is 3\.0\); .*out=PATH.*overwrite=True"
    ):
        of(two, out=out, scale=3)
    assert of(two, out=out, scale=3, overwrite=True).path is None
    with pytest.raises(SettingError, match="give one of them"):
        of(two, out=out, overwrite=True, resume=True)


def test_any_other_file_is_in_the_way(two: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("[1]")
    with pytest.raises(OutputError, match=r"result\.json: this is not a saved evaluation.*overwrite=True"):
        of(two, out=tmp_path / "result.json")


def test_a_result_of_data_that_changed_since_is_not_taken(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    for path in (two / "masks" / "one.png", two / "images" / "two.png"):
        of(two, out=out, overwrite=True)
        content = path.read_bytes()
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        with pytest.raises(OutputError, match=rf"other data: .* of 1 image changed \({path.stem}\); .*overwrite=True"):
            of(two, out=out, allow_skipped=True, resume=True)
        path.write_bytes(content)


def test_data_that_was_copied_is_the_same_data(two: Path, tmp_path: Path) -> None:
    of(two, out=tmp_path / "result.json")
    other = tmp_path / "elsewhere" / "data"
    shutil.copytree(two, other, copy_function=shutil.copyfile)
    assert of(other, out=tmp_path / "result.json").path is not None


def test_an_image_under_another_name_is_other_data(two: Path, tmp_path: Path) -> None:
    of(two, out=tmp_path / "result.json")
    for folder_name in ("images", "masks"):
        (two / folder_name / "two.png").rename(two / folder_name / "three.png")
    with pytest.raises(OutputError, match=r"1 image changed \(two\)"):
        of(two, out=tmp_path / "result.json")


def test_other_ids_of_the_same_classes_are_other_data(two: Path, tmp_path: Path) -> None:
    (two / "classes.json").write_text(json.dumps({"0": "red", "1": "green", "2": "blue"}))
    of(two, out=tmp_path / "result.json")
    (two / "classes.json").write_text(json.dumps({"0": "red", "1": "green", "2": "blue", "3": "yellow"}))
    of(two, out=tmp_path / "result.json")  # it occurs nowhere
    for path in (two / "masks").iterdir():
        ids = np.asarray(Image.open(path))
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        Image.fromarray(np.where(ids == 2, 3, ids).astype(np.uint8)).save(path)
        os.utime(path, ns=times)
    (two / "classes.json").write_text(json.dumps({"0": "red", "1": "green", "3": "blue"}))
    with pytest.raises(OutputError, match="the ids of the classes differ"):
        of(two, out=tmp_path / "result.json")


def test_progress_is_told(two: Path) -> None:
    told: list[tuple[int, int]] = []
    of(two, progress=lambda done, images: told.append((done, images)))
    assert told == [(1, 2), (2, 2)]


def test_a_predictor_is_measured_as_it_is(two: Path, predictor: Callable[[], Predictor]) -> None:
    assert evaluate(predictor(), "folder", data=two).scores == of(two).scores
    with pytest.raises(SettingError, match="loaded already"):
        evaluate(predictor(), "folder", data=two, scale=3)
    changing = Protocol("colours", "folder", "released", "", settings={"scale": 3})
    with pytest.raises(SettingError, match="loaded already"):
        evaluate(predictor(), "folder", data=two, protocol=changing)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": None}, "a model cannot be None; give a name"),
        ({"benchmark": None}, "a benchmark cannot be None"),
        ({"data": 5}, "data cannot be 5; give the folder"),
        ({"protocol": 3}, "a protocol cannot be 3"),
        ({"split": 1}, "a split cannot be 1"),
        ({"background": {"sky"}}, "the background cannot be {'sky'}"),
        ({"options": ["classes=all"]}, "the options cannot be ['classes=all']"),
        ({"limit": "3"}, "limit must be a whole number of images, 1 or more, got '3'"),
        ({"batch_size": 0}, "batch_size must be a whole number of images, 1 or more, got 0"),
        ({"corrupt": "fog:1"}, "corrupt must be a Corruption, got 'fog:1'"),
        ({"out": 3}, "out must be the path of a file, got 3"),
        ({"preset": 3}, "no preset is called 3"),
    ],
)
def test_arguments_of_another_kind_are_named(two: Path, given: dict[str, Any], says: str) -> None:
    whole = {"model": "colours/plain", "benchmark": "folder", "data": two, **given}
    with pytest.raises(LexisegError, match=re.escape(says)):
        evaluate(**whole)


def test_background_words_may_be_a_list(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rgw",), ("rgb",))})
    (data / "classes.json").write_text(json.dumps(["red", "green", "background"]))
    assert of(data, background=["white", "blue"]).scores == of(data, background="white, blue").scores


def test_data_must_be_named(two: Path) -> None:
    with pytest.raises(DataError, match="no data folder was given for folder; give data=FOLDER"):
        evaluate("colours/plain", "folder")


# interrupted, and on several processes


def test_a_run_that_was_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    data, out = noise(tmp_path / "data", 24), tmp_path / "result.json"
    child = subprocess.Popen([sys.executable, CHILD, data, out, "--delay", "0.1", "--batch-size", "2"])
    try:
        saved = _wait_for(lambda: list(tmp_path.glob("result.json.unfinished/tallies-*")), child)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not out.exists()
    already = len(json.loads(saved[0].read_text())["confusion"]["images"])
    assert 0 < already < 24
    told: list[int] = []
    resumed = of(data, out=out, resume=True, delay=0.1, batch_size=2, progress=lambda done, _: told.append(done))
    assert told[0] > already
    assert resumed.tallies.to_json() == of(data, batch_size=2).tallies.to_json()
    assert resumed.scores == of(data, batch_size=2).scores
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "result.json"]


def test_what_is_unfinished_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    data, out = noise(tmp_path / "data", 4), tmp_path / "result.json"
    _interrupt(data, out, after=2)
    with pytest.raises(DataError, match=r"belongs to another evaluation: settings\.config\.scale"):
        of(data, out=out, resume=True, scale=4)
    assert of(data, out=out).tallies.to_json() == of(data).tallies.to_json()  # afresh


@pytest.mark.parametrize("what", ["images", "masks"])
def test_what_is_unfinished_of_other_data_is_not_continued(tmp_path: Path, what: str) -> None:
    data, out = noise(tmp_path / "data", 4), tmp_path / "result.json"
    _interrupt(data, out, after=2)
    later, counted = data / what / "003.png", data / what / "000.png"
    later.write_bytes(counted.read_bytes())  # it has not been counted yet
    os.utime(counted)  # the same content
    _interrupt(data, out, after=3)
    Image.fromarray(255 - np.asarray(Image.open(counted))).save(counted)
    with pytest.raises(
        DataError, match=r"other data: .* of 1 image changed \(000\); begin afresh, without resume=True"
    ):
        of(data, out=out, resume=True, allow_skipped=True)
    assert of(data, out=out, allow_skipped=True).images >= 3  # afresh


def test_an_image_that_was_repaired_is_other_data(two: Path, tmp_path: Path) -> None:
    path = two / "images" / "one.png"
    content = path.read_bytes()
    path.write_bytes(b"no picture")
    of(two, out=tmp_path / "result.json", allow_skipped=True)
    os.utime(path)
    assert of(two, out=tmp_path / "result.json", allow_skipped=True).path is not None
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"1 image changed \(one\)"):
        of(two, out=tmp_path / "result.json", allow_skipped=True)


def test_a_run_may_be_interrupted_more_than_once(tmp_path: Path) -> None:
    data, out = noise(tmp_path / "data", 9), tmp_path / "result.json"
    for after in (2, 5):
        _interrupt(data, out, after=after)
    assert of(data, out=out, resume=True).tallies.to_json() == of(data).tallies.to_json()


def test_two_processes_count_what_one_does(tmp_path: Path) -> None:
    data, out = noise(tmp_path / "data", 9), tmp_path / "result.json"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, CHILD, data, out, "--batch-size", "2", "--own-words", "--boundary"]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(command, env={**os.environ, **environment, "RANK": str(rank)}, stdout=subprocess.PIPE)
        for rank in range(2)
    ]
    counted = [json.loads(child.communicate(timeout=120)[0]) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert counted == [9, 9]  # both have the whole result
    alone = of(data, batch_size=2, own_words=True, boundary=True)
    together = Result.load(out)
    assert together.tallies.to_json() == alone.tallies.to_json()
    assert together.scores == alone.scores
    assert together.environment["processes"] == 2


def _wait_for(look: Callable[[], list[Path]], child: subprocess.Popen[Any]) -> list[Path]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := look():
            return found
        assert child.poll() is None, "it ended before anything was saved"
        time.sleep(0.02)
    raise AssertionError("nothing was saved in a minute")


def _interrupt(data: Path, out: Path, *, after: int) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == after:
            raise Stop

    subject = prepare(Setup(Model("colours/plain", device="cpu", dtype="fp32"), "folder", data))
    keep = Keep(out, resume=True, save_every=0)
    with pytest.raises(Stop):
        measure(subject, Counting(), keep=keep, progress=stop)


@pytest.mark.skipif(not MASKS_VAL.is_dir(), reason="the photographs of shared/data/masks-val are not here")
@pytest.mark.parametrize("model", ["maskclip/mini", "student/mini", "simseg/mini"])
def test_the_embedded_models_are_better_than_guessing_on_real_photographs(model: str) -> None:
    result = evaluate(model, "folder", data=MASKS_VAL, limit=8)
    assert result.images == 8
    guesses = max(scores["miou"] for name, scores in result.baselines.items() if name != "largest class of each image")
    assert result["miou"] > 2 * guesses
    assert dataclasses.asdict(result.profile)["seconds"] > 0
