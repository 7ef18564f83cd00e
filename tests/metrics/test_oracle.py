"""Masks named by the ground truth, against loops over masks and classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg.errors import DataError, UnknownName
from lexiseg.metrics.oracle import label_proposals, label_segments, proposal_weights

C = 4


def random_case(seed, *, masks=5, size=(9, 11)):
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, C, (3, 4)), np.ones((3, 3), int))[: size[0], : size[1]].astype(np.uint8)
    truth[random.random(size) < 0.1] = 255
    return random.random((masks, *size)).astype(np.float32), truth


def soft_by_hand(masks, truth):
    known = truth != 255
    sums = np.zeros((C, *truth.shape))
    for mask in masks:
        on = (mask > 0.5) & known
        ious = np.array([(on & (truth == c)).sum() / max((on | (truth == c)).sum(), 1) for c in range(C)])
        if ious.sum():
            sums += (ious / np.abs(ious).sum())[:, None, None] * mask
    return sums


def hard_by_hand(masks, truth):
    sums = np.zeros((C, *truth.shape))
    for mask in masks:
        overlaps = [((mask > 0.5) & (truth == c)).sum() for c in range(C)]
        if max(overlaps):
            sums[int(np.argmax(overlaps))] += mask
    return sums


@pytest.mark.parametrize(("assign", "by_hand"), [("hard", hard_by_hand), ("soft", soft_by_hand)])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_pixel_takes_the_largest_sum_of_weight_times_mask(assign, by_hand, seed):
    masks, truth = random_case(seed)
    sums = by_hand(masks, truth)
    labels = label_proposals(masks, truth, C, assign=assign)
    reached = np.take_along_axis(sums, labels[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(reached, sums.max(axis=0), rtol=1e-5)


@pytest.mark.parametrize("assign", ["hard", "soft"])
def test_the_ground_truths_own_masks_give_it_back(assign):
    _, truth = random_case(0)
    masks = np.stack([truth == c for c in reversed(range(C))])
    labels = label_proposals(masks, truth, C, assign=assign)
    np.testing.assert_array_equal(labels[truth != 255], truth[truth != 255])
    assert (labels[truth == 255] == 255).all()  # no mask covers them


def test_hard_follows_the_overlap_and_soft_the_iou():
    truth = np.zeros((1, 30), np.uint8)
    truth[0, 20:24] = 1
    mask = np.zeros((1, 1, 30), bool)
    mask[0, 0, 15:24] = True  # 5 pixels of the large class, all 4 of the small one
    assert proposal_weights(mask, truth, 2).tolist() == [[1, 0]]
    small, large = 4 / 9, 5 / 30
    np.testing.assert_allclose(
        proposal_weights(mask, truth, 2, assign="soft"), [[large / (small + large), small / (small + large)]]
    )
    assert (label_proposals(mask, truth, 2, assign="soft")[0, 15:24] == 1).all()
    assert (label_proposals(mask, truth, 2)[0, 15:24] == 0).all()


@pytest.mark.parametrize("assign", ["hard", "soft"])
def test_a_mask_on_ignored_pixels_votes_for_nothing(assign):
    weights = proposal_weights(np.ones((1, 2, 2), bool), np.full((2, 2), 255), C, assign=assign)
    assert weights.tolist() == [[0] * C]
    assert (label_proposals(np.ones((1, 2, 2)), np.full((2, 2), 255), C, assign=assign) == 255).all()


def test_no_proposals_label_nothing():
    assert (label_proposals(np.zeros((0, 3, 3)), np.zeros((3, 3), int), C) == 255).all()


def test_more_than_255_classes_need_wider_labels():
    labels = label_proposals(np.ones((1, 2, 2)), np.full((2, 2), 299, np.uint16), 300)
    assert labels.dtype == np.uint16
    assert (labels == 299).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_each_segment_gets_the_class_of_most_of_its_pixels(seed):
    random = np.random.default_rng(seed)
    _, truth = random_case(seed)
    segments = random.integers(-1, 5, truth.shape) * 7
    labels = label_segments(segments, truth, C)
    for part in np.unique(segments):
        inside = truth[(segments == part) & (truth != 255)]
        (given_label,) = np.unique(labels[segments == part])
        assert given_label == (np.bincount(inside).argmax() if inside.size else 255)


def test_no_other_naming_of_the_segments_is_right_more_often():
    random = np.random.default_rng(1)
    _, truth = random_case(1)
    segments = random.integers(0, 3, truth.shape)
    best = (label_segments(segments, truth, C) == truth).sum()
    every = np.stack(np.meshgrid(*[range(C)] * 3), axis=-1).reshape(-1, 3)
    assert best == max((names[segments] == truth).sum() for names in every)


def test_shapes_and_names_are_checked():
    with pytest.raises(DataError, match="resize"):
        label_proposals(np.zeros((1, 2, 2)), np.zeros((3, 3), int), C)
    with pytest.raises(DataError, match="resize"):
        label_segments(np.zeros((2, 2), int), np.zeros((3, 3), int), C)
    with pytest.raises(UnknownName, match="soft"):
        label_proposals(np.zeros((1, 2, 2)), np.zeros((2, 2), int), C, assign="sofft")
