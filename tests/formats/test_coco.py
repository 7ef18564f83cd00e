"""COCO annotations, read back by pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco

from lexiseg.formats.coco import encode


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pycocotools_reads_every_mask_back(dtype: type) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (13, 29)).astype(dtype)
    found = json.loads(json.dumps(encode(labels, {3: "sky", 0: "road"}, {0: 0.25, 3: 0.75})))
    assert [(one["category_id"], one["category"], one["score"]) for one in found] == [
        (3, "sky", 0.75),
        (0, "road", 0.25),
    ]
    for one in found:
        mask = labels == one["category_id"]
        assert np.array_equal(coco.decode(one["segmentation"]).astype(bool), mask)
        assert one["area"] == mask.sum()


def test_without_scores_annotations_have_none() -> None:
    (one,) = encode(np.zeros((2, 2), np.uint8), {0: "road"})
    assert "score" not in one
