"""oracle: masks named by the ground truth, from files and from a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from evaluation.pictures import TWO, folder, label
from lexiseg import catalog
from lexiseg.errors import DataError, OutputError, SettingError, UnknownName
from lexiseg.evaluation.counting import Keep
from lexiseg.evaluation.oracle import oracle
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.setup import Model, Setup
from lexiseg.formats import coco
from lexiseg.metrics.confusion import Confusion
from lexiseg.metrics.oracle import label_proposals, label_segments
from lexiseg.metrics.scores import score
from lexiseg.segmenter import DenseLogits, MaskScores
from methods.shelf import doubles

CLASSES = ["red", "green", "blue"]
TRUTHS = {key: label(truth, CLASSES) for key, (_, truth) in TWO.items()}


def of(masks: Any, data: Path, changes: Mapping[str, Any] | None = None, **arguments: Any) -> Result:
    model = Model(str(masks), device="cpu", dtype="fp32", changes=changes or {})
    return oracle(Setup(model, "folder", data), **arguments)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The truth itself under other numbers, but that one picture is one part as a whole."""
    (tmp_path / "parts").mkdir()
    Image.fromarray((TRUTHS["one"] + 7).astype(np.uint8)).save(tmp_path / "parts" / "one.png")
    Image.fromarray(np.zeros_like(TRUTHS["two"])).save(tmp_path / "parts" / "two.png")
    return tmp_path / "parts"


@pytest.fixture
def proposals(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "proposals").mkdir()
    for key, truth in TRUTHS.items():
        masks = random.random((5, *truth.shape)).astype(np.float32)
        np.savez_compressed(tmp_path / "proposals" / f"{key}.npz", masks=masks)
    return tmp_path / "proposals"


def test_each_part_gets_the_class_of_most_of_its_pixels(two: Path, parts: Path) -> None:
    result = of(parts, two)
    # "one" is all right; "two" has two red, three green and one blue pixel, and is green as a whole
    assert result["pixel_accuracy"] == pytest.approx((5 + 3) / 11)
    assert result.facts["protocol"] == {"name": "oracle", "assign": "hard", "average": "present_or_predicted"}


@pytest.mark.parametrize("assign", ["hard", "soft"])
def test_proposals_are_assigned_as_the_metric_does(two: Path, proposals: Path, assign: str) -> None:
    expected = Confusion.empty(3)
    for key, truth in TRUTHS.items():
        masks = np.load(proposals / f"{key}.npz")["masks"]
        expected.update(label_proposals(masks, truth, 3, assign=assign), truth)
    assert of(proposals, two, assign=assign)["miou"] == pytest.approx(score(expected.tallies)["miou"])


def test_results_of_oracles_are_kept(two: Path, parts: Path, tmp_path: Path) -> None:
    result = of(parts, two, keep=Keep(tmp_path / "oracle.json"))
    assert Result.load(tmp_path / "oracle.json").scores == result.scores
    assert of(parts, two, keep=Keep(tmp_path / "oracle.json")).scores == result.scores


def test_results_of_masks_that_changed_since_are_not_taken(two: Path, parts: Path, tmp_path: Path) -> None:
    of(parts, two, keep=Keep(tmp_path / "oracle.json"))
    Image.fromarray(np.zeros_like(TRUTHS["one"])).save(parts / "one.png")
    with pytest.raises(OutputError, match=r"1 image changed \(one\)"):
        of(parts, two, keep=Keep(tmp_path / "oracle.json"))
    (parts / "one.png").unlink()
    with pytest.raises(OutputError, match=r"1 image changed \(one\)"):
        of(parts, two, keep=Keep(tmp_path / "oracle.json"))


@pytest.mark.parametrize("weights", ["sigmoid", "linear"])
@pytest.mark.parametrize("padding", [0, 2])
def test_masks_of_a_model_are_taken_whatever_it_would_call_them(
    two: Path, monkeypatch: pytest.MonkeyPatch, weights: Literal["sigmoid", "linear"], padding: int
) -> None:
    colours = catalog.get("methods", "colours").Colours
    classify = colours.classify

    def masks(self: Any, embedding: Any, classifier: Any) -> MaskScores:
        logits: DenseLogits = classify(self, embedding, classifier)
        right = functional.pad(logits.logits.argmax(1, keepdim=True), (0, padding, 0, padding))
        each = torch.cat([right == place for place in range(3)], 1).float()
        covers = (right.shape[2], right.shape[3])
        no_idea = torch.ones(1, 3, 3)  # no mask knows its class
        return MaskScores(each if weights == "linear" else 40 * each - 20, no_idea, weights=weights, covers=covers)

    monkeypatch.setattr(colours, "classify", masks)
    result = of("colours/plain", two)
    # the model's own parts: what it had right (8 pixels), as no part of "one" or "two" is mostly of another class
    assert result["pixel_accuracy"] == pytest.approx(8 / 11)


def test_a_model_without_masks_is_refused(two: Path) -> None:
    with pytest.raises(SettingError, match="labels places, not masks"):
        of("colours/plain", two)


def test_masks_that_are_missing_damaged_or_of_another_size_are_named(two: Path, parts: Path) -> None:
    with pytest.raises(SettingError, match="parts of a label map"):
        of(parts, two, assign="soft")
    with pytest.raises(UnknownName, match="assignment"):
        of(parts, two, assign="har")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(parts / "one.png")
    with pytest.raises(DataError, match=r"one\.png are 2 x 2 and the photograph is 2 x 3"):
        of(parts, two)
    (parts / "one.png").unlink()
    with pytest.raises(DataError, match="no masks for one"):
        of(parts, two)
    (parts / "one.npz").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"one\.npz cannot be read"):
        of(parts, two)


def test_all_classes_are_scored_with_the_background(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", {"one": (("rg",), ("rg",))})
    (data / "classes.json").write_text(json.dumps({"0": "red", "1": "background"}))
    (tmp_path / "parts").mkdir()
    Image.fromarray(np.array([[3, 4]], np.uint8)).save(tmp_path / "parts" / "one.png")
    assert of(tmp_path / "parts", data)["miou"] == 1


def test_a_proposer_is_scored_without_any_words(two: Path) -> None:
    """Two clusters of two colours each are the truth itself."""
    result = of("kmeans", two, {"features": "colours", "k": 6, "side": 6})
    assert result.facts["settings"]["k"] == 6
    one = of("kmeans", two, {"features": "colours", "k": 1, "side": 6})
    assert result["pixel_accuracy"] > one["pixel_accuracy"]
    assert of("superpixels", two, {"min_size": 1, "short_side": None})["pixel_accuracy"] > 0


def test_a_setting_that_a_proposer_lacks_is_named(two: Path) -> None:
    with pytest.raises(UnknownName, match="clusters"):
        of("kmeans", two, {"clusters": 3})


@pytest.mark.parametrize("name", ["selective_search", "contours"])
def test_every_proposer_is_scored(two: Path, name: str) -> None:
    result = of(name, two, {"long_side": 40, "most": 7})
    assert result.facts["settings"]["most"] == 7
    assert result["pixel_accuracy"] > 0
    soft = of(name, two, {"long_side": 40, "most": 7}, assign="soft")
    assert soft.facts["protocol"]["assign"] == "soft"


def test_a_model_with_regions_is_scored_by_its_masks(two: Path) -> None:
    with doubles():
        result = of("masked/tiny", two)
    expected = Confusion.empty(3)
    for truth in TRUTHS.values():
        height, width = truth.shape
        rows, columns = np.arange(height) >= (height + 1) // 2, np.arange(width) >= (width + 1) // 2
        quarter = 2 * rows[:, None] + columns
        expected.update(label_segments(quarter, truth, 3), truth)
    assert result["pixel_accuracy"] == pytest.approx(score(expected.tallies)["pixel_accuracy"])


@pytest.mark.parametrize("form", ["npz", "folder", "json", "coco"])
def test_masks_in_any_form_are_scored_alike(two: Path, proposals: Path, tmp_path: Path, form: str) -> None:
    place = tmp_path / "masks"
    place.mkdir()
    images, annotations = [], []
    for number, key in enumerate(TRUTHS):
        masks = np.load(proposals / f"{key}.npz")["masks"] > 0.6
        found = [
            {"segmentation": coco.annotation(mask, 0, "region")["segmentation"], "image_id": number} for mask in masks
        ]
        images.append({"id": number, "file_name": f"{key}.png"})
        annotations += found
        if form == "npz":
            np.savez(place / f"{key}.npz", masks=masks)
        elif form == "folder":
            (place / key).mkdir()
            for mask_number, mask in enumerate(masks):
                Image.fromarray(mask).save(place / key / f"{mask_number}.png")
        elif form == "json":
            (place / f"{key}.json").write_text(json.dumps(found))
    if form == "coco":
        place = tmp_path / "masks.json"
        place.write_text(json.dumps({"images": images, "annotations": annotations}))
    expected = Confusion.empty(3)
    for key, truth in TRUTHS.items():
        masks = np.load(proposals / f"{key}.npz")["masks"] > 0.6
        expected.update(label_proposals(masks, truth, 3), truth)
    result = of(place, two, keep=Keep(tmp_path / "result.json"))
    assert result["miou"] == pytest.approx(score(expected.tallies)["miou"])
    assert of(place, two, keep=Keep(tmp_path / "result.json")).scores == result.scores


def test_what_is_in_no_part_stays_unlabelled(two: Path, tmp_path: Path) -> None:
    place = tmp_path / "none"
    place.mkdir()
    for key, truth in TRUTHS.items():
        Image.fromarray(np.where(truth == 1, 255, truth).astype(np.uint8)).save(place / f"{key}.png")
    result = of(place, two)
    assert result.classes["green"].iou == 0
    assert result.classes["red"].iou == result.classes["blue"].iou == 1
