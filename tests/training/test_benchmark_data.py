"""A benchmark's training split as training data, with the labels that each setting may show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.data.labelled.dense import UNLABELLED, DenseAugmentation
from lexiseg.data.opening import Workers
from lexiseg.errors import DataError, SettingError
from lexiseg.training.benchmark_data import BenchmarkData

# no resizing, cropping, flipping or colours: labels come through as they are
AS_IT_IS = DenseAugmentation(crop=(8, 8), scale=(8, 8), ratio=(1.0, 1.0), flip=0, distort=False, most_of_one=1.0)
AEROPLANE, SHEEP, BACKGROUND, BORDER = 1, 17, 0, 255  # ids in VOC's files; sheep is unseen in voc_15_5


@pytest.fixture
def voc(tmp_path: Path) -> BenchmarkData:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    ids = np.full((8, 8), BACKGROUND, np.uint8)
    ids[:2], ids[2:4], ids[4] = AEROPLANE, SHEEP, BORDER
    Image.new("RGB", (8, 8)).save(base / "JPEGImages" / "a.jpg")
    Image.fromarray(ids).save(base / "SegmentationClass" / "a.png")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    return BenchmarkData("voc_15_5", str(tmp_path), split="train", augmentation=AS_IT_IS, workers=Workers())


def labels(data: BenchmarkData) -> torch.Tensor:
    """The label at the aeroplane, the sheep, the void border and the background."""
    loader = data.open(batch_size=1, seed=0, max_bad_fraction=0)
    batch, _ = next(loader.stream())
    assert batch["images"].shape == (1, 3, 8, 8)
    return batch["labels"][0, [0, 2, 4, 6], 0]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("all", [0, 16, 255, 255]),
        ("seen", [0, 255, 255, 255]),
        ("zero_shot", [0, UNLABELLED, 255, 255]),
        ("annotation_free", [UNLABELLED, UNLABELLED, 255, 255]),
        ("none", [UNLABELLED] * 4),
    ],
)
def test_the_model_is_told_these_labels_and_no_others(voc: BenchmarkData, told: str, expected: list[int]) -> None:
    assert labels(replace(voc, labels=told)).tolist() == expected  # type: ignore[arg-type]


def test_a_scored_background_counts_as_seen(voc: BenchmarkData) -> None:
    assert labels(replace(voc, benchmark="voc21_15_5", labels="zero_shot")).tolist() == [0, UNLABELLED, 255, 20]


def test_hiding_unseen_classes_needs_a_benchmark_that_has_some(voc: BenchmarkData) -> None:
    with pytest.raises(SettingError, match="voc20 keeps no classes from training"):
        replace(voc, benchmark="voc20", labels="seen").source()


def test_missing_data_is_said_when_the_run_opens_it(voc: BenchmarkData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="voc20"):
        replace(voc, benchmark="voc20", split=None, root=str(tmp_path / "nowhere")).source()


def test_two_settings_have_two_manifests(voc: BenchmarkData) -> None:
    manifests = [replace(voc, labels=told).source().manifest() for told in ("all", "none")]
    assert manifests[0] != manifests[1]
    assert manifests[0]["benchmark"] == "voc_15_5"
