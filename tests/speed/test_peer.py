"""The yardstick does the same work: where the maths is the same, so are the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexiseg import catalog
from lexiseg.encoders.prompts import Prompts
from lexiseg.evaluation.setup import Model
from lexiseg.segmenter import DenseLogits, MaskScores
from lexiseg.speed import stand_in
from lexiseg.speed.bench import photograph
from lexiseg.speed.peer import Peer, argmax
from lexiseg.vocabulary import Vocabulary

BARE = Prompts(("{}",))

WORDS = Vocabulary("cat, dog, sky, a car, grass")


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("maskclip/mini", {"last_block": "attention"}),  # CLIP's own dense output: transformers' forward
        ("maskclip/tiny-rn", {}),
        ("simseg/tiny-clip", {}),
    ],
)
def test_labels_are_the_predictors(model: str, changes: dict[str, str]) -> None:
    predictor = stand_in.load(Model(model, dtype="fp32", changes={"prompts": "single", **changes}))
    image = photograph(96)
    classifier = predictor.embed_text(WORDS)
    labels = Peer(predictor.segmenter, classifier, predictor.inference, dtype=torch.float32).label(image)
    ours = predictor.segment(image, WORDS).labels.astype(int)
    unlabelled = ours == 255  # by a method's own rule, whose channel comes after the classes
    assert np.mean(np.where(unlabelled, len(WORDS), ours) == labels) > 0.99
    assert model != "maskclip/mini" or len(np.unique(labels)) > 1  # random features may all be alike


def test_half_precision_gives_nearly_the_same_labels() -> None:
    segmenter, inference = catalog.load("maskclip/mini", prompts="single")
    classifier = segmenter.embed_text(WORDS, BARE)
    image = photograph(96)
    full, half = (
        Peer(segmenter, classifier, inference, dtype=dtype).label(image) for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0.9 < np.mean(full == half) <= 1


def test_the_models_own_weights_stay_as_they_are() -> None:
    segmenter, inference = catalog.load("maskclip/tiny")
    Peer(segmenter, segmenter.embed_text(WORDS, BARE), inference, dtype=torch.bfloat16)
    assert {weight.dtype for weight in segmenter.parameters()} == {torch.float32}


def test_masks_are_summed_at_full_size() -> None:
    random = torch.Generator().manual_seed(0)
    masks, scores = torch.randn(1, 3, 4, 5, generator=random), torch.rand(1, 3, 4, generator=random)
    labels = argmax(MaskScores(masks, scores), (8, 10))
    grown = torch.nn.functional.interpolate(masks, (8, 10), mode="bilinear", align_corners=False)[0].sigmoid()
    for y, x in ((0, 0), (3, 7), (7, 9)):
        sums = [float((grown[:, y, x] * scores[0, :, c]).sum()) for c in range(4)]
        assert labels[y, x] == int(np.argmax(sums))


def test_the_first_of_equal_classes_wins() -> None:
    assert (argmax(DenseLogits(torch.zeros(1, 3, 2, 2)), (4, 4)) == 0).all()
