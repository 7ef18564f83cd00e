"""Scores against scikit-learn, against sums done by hand, and against the conventions of the specs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from lexiseg.errors import SettingError, UnknownName
from lexiseg.metrics import scores
from lexiseg.metrics.confusion import count, tally

# truth 0: 3 right, 1 taken for class 1; truth 1: 2 right, 2 none of these; class 2: only ever predicted, once, where
# the truth is 1; class 3: nowhere
BY_HAND = np.array([[3, 2, 0, 0], [0, 1, 1, 0], [1, 3, 0, 0]])  # [3, C]

tallies_of_any_size = st.integers(1, 9).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(0, 50), min_size=classes, max_size=classes), min_size=3, max_size=3
    ).map(np.array)
)


def zsseg_mean(tallies, among):
    """ZSSeg's convention as written: IoU for classes in the truth alone, over the number in truth or prediction."""
    hits, extra, missed = tallies
    total, valid = 0.0, 0
    for c in np.flatnonzero(among):
        if hits[c] + missed[c] > 0:
            total += hits[c] / (hits[c] + extra[c] + missed[c])
        valid += hits[c] + missed[c] > 0 or hits[c] + extra[c] > 0
    return total / valid if valid else math.nan


def test_every_score_by_hand():
    found = scores.score(BY_HAND)
    assert found["miou"] == pytest.approx((3 / 4 + 2 / 6 + 0) / 3)
    assert found["pixel_accuracy"] == pytest.approx(5 / 9)
    assert found["mean_accuracy"] == pytest.approx((3 / 4 + 2 / 5) / 2)
    assert found["frequency_weighted_iou"] == pytest.approx((4 * 3 / 4 + 5 * 2 / 6) / 9)
    np.testing.assert_allclose(scores.iou(BY_HAND), [3 / 4, 2 / 6, 0, np.nan])


def test_the_averages_differ_in_the_classes_they_leave_out():
    total = 3 / 4 + 2 / 6
    assert scores.mean_iou(BY_HAND, average="present_or_predicted") == pytest.approx(total / 3)
    assert scores.mean_iou(BY_HAND, average="present") == pytest.approx(total / 2)
    assert scores.mean_iou(BY_HAND, average="all") == pytest.approx(total / 4)
    with pytest.raises(UnknownName, match="present"):
        scores.mean_iou(BY_HAND, average="presnt")


@given(tallies=tallies_of_any_size, seed=st.integers(0, 99))
def test_zssegs_average_is_the_default_one_in_every_subset(tallies, seed):
    among = np.random.default_rng(seed).random(tallies.shape[1]) < 0.7
    np.testing.assert_allclose(scores.mean_iou(tallies, among=among), zsseg_mean(tallies, among), rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 12))
def test_scores_equal_those_of_scikit_learn(seed, classes):
    random = np.random.default_rng(seed)
    truth, labels = random.integers(0, classes, (2, 40)).astype(np.uint8)
    tallies = tally(count(labels, truth, classes))
    per_class = jaccard_score(truth, labels, labels=np.arange(classes), average=None, zero_division=0)
    np.testing.assert_allclose(np.nan_to_num(scores.iou(tallies)), per_class)
    found = scores.score(tallies)
    assert found["miou"] == pytest.approx(jaccard_score(truth, labels, average="macro"))
    assert found["frequency_weighted_iou"] == pytest.approx(
        jaccard_score(truth, labels, average="weighted", zero_division=0)
    )
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(truth, labels))
    if set(labels) <= set(truth):  # scikit-learn warns where a class is only predicted
        assert found["mean_accuracy"] == pytest.approx(balanced_accuracy_score(truth, labels))


@given(tallies=tallies_of_any_size)
def test_scores_are_fractions_and_a_perfect_map_scores_one(tallies):
    for value in scores.score(tallies).values():
        assert math.isnan(value) or 0 <= value <= 1
    perfect = tallies * np.array([[1], [0], [0]])
    if perfect.any():
        assert set(scores.score(perfect).values()) == {1.0}


def test_leading_dimensions_pass_through():
    stack = np.stack([BY_HAND, BY_HAND * 2, BY_HAND + 1])
    subsets = {"seen": [True, False, True, False], "unseen": [False, True, False, True]}
    for name, values in scores.measure(stack, subsets=subsets).items():
        singly = [scores.score(one, subsets=subsets)[name] for one in stack]
        np.testing.assert_allclose(values, singly)


def test_hiou_is_the_harmonic_mean_of_seen_and_unseen():
    found = scores.score(BY_HAND, subsets={"seen": [True, False, True, True], "unseen": [False, True, False, False]})
    seen, unseen = (3 / 4) / 2, 2 / 6
    assert found["miou_seen"] == pytest.approx(seen)
    assert found["miou_unseen"] == pytest.approx(unseen)
    assert found["hiou"] == pytest.approx(2 / (1 / seen + 1 / unseen))
    assert found["pixel_accuracy_seen"] == pytest.approx(3 / 4)
    assert "hiou" not in scores.score(BY_HAND, subsets={"seen": [True] * 4})


@pytest.mark.parametrize(
    ("seen", "unseen", "published"),
    # docs/results.md, quoted: MaskCLIP+ on VOC (Table 3), ZSSeg on COCO and VOC, SPNet on COCO
    [(88.8, 86.1, 87.4), (39.3, 36.3, 37.8), (83.5, 72.5, 77.5), (20.5, 14.3, 16.8), (79.2, 78.1, 78.6)],
)
def test_hiou_reproduces_the_published_tables(seen, unseen, published):
    assert scores.harmonic_mean(seen, unseen) == pytest.approx(published, abs=0.12)


def test_hiou_is_zero_where_nothing_is_right_and_nan_where_a_side_is_empty():
    assert scores.harmonic_mean(0, 0) == 0
    assert scores.harmonic_mean(0.5, 0) == 0
    assert np.isnan(scores.harmonic_mean(0.5, np.nan))


def test_an_empty_subset_has_no_score():
    found = scores.score(BY_HAND, subsets={"seen": [True] * 4, "unseen": [False] * 4})
    assert math.isnan(found["miou_unseen"])
    assert math.isnan(found["hiou"])


def test_a_subset_of_the_wrong_length_is_refused():
    with pytest.raises(SettingError, match="2 flags for 4 classes"):
        scores.mean_iou(BY_HAND, among=[True, False])
