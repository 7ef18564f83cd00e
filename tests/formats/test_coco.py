"""COCO annotations, read back by pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycoco

from lexiseg.formats import coco
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
        assert np.array_equal(pycoco.decode(one["segmentation"]).astype(bool), mask)
        assert one["area"] == mask.sum()


def test_without_scores_annotations_have_none() -> None:
    (one,) = encode(np.zeros((2, 2), np.uint8), {0: "road"})
    assert "score" not in one


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
def test_run_lengths_are_read_as_pycocotools_reads_them(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    found = pycoco.encode(np.asfortranarray(mask, np.uint8))
    text = {"size": [height, width], "counts": found["counts"].decode()}
    assert np.array_equal(coco.decode(text, (height, width)), pycoco.decode(found).astype(bool))
    assert np.array_equal(coco.decode(text, (height, width)), mask)
    flat = mask.T.ravel()
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat, prepend=False)), [flat.size]])).tolist()
    assert np.array_equal(coco.decode({"size": [height, width], "counts": runs}, (height, width)), mask)
    assert coco.annotation(mask, 3, "cat")["segmentation"] == text


def test_a_large_mask_has_long_runs() -> None:
    mask = np.zeros((900, 1300), bool)
    mask[17:850, 400] = mask[:, 900:1200] = True
    found = pycoco.encode(np.asfortranarray(mask, np.uint8))
    text = {"size": [900, 1300], "counts": found["counts"].decode()}
    assert np.array_equal(coco.decode(text, (900, 1300)), mask)
