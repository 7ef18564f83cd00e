"""The confusion matrix against a loop over pixels and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from lexiseg.errors import DataError
from lexiseg.metrics.confusion import Confusion, count, rows, tally, unlabelled


def brute_force(labels, truth, classes):
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    for predicted, actual in zip(labels.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if actual not in (unlabelled(classes), 65_535):
            counts[actual, classes if predicted in (unlabelled(classes), 65_535) else predicted] += 1
    return counts


def random_maps(random, classes, shape, *, block=1):
    """A label map and a truth with both special values in them; `block` makes runs of equal pixels."""
    none = unlabelled(classes)
    dtype = np.uint8 if none == 255 else np.uint16
    maps = []
    for _ in range(2):
        small = random.integers(0, classes + 1, [-(-side // block) for side in shape])
        small[small == classes] = none
        maps.append(np.kron(small, np.ones((block, block), int))[: shape[0], : shape[1]].astype(dtype))
    return maps


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.sampled_from([1, 2, 7, 171, 254, 255, 256, 300]),
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    block=st.sampled_from([1, 3, 8]),
)
def test_the_matrix_equals_a_loop_over_pixels(seed, classes, shape, block):
    labels, truth = random_maps(np.random.default_rng(seed), classes, shape, block=block)
    counts = count(labels, truth, classes)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, brute_force(labels, truth, classes))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), classes=st.sampled_from([2, 21, 300]))
def test_the_matrix_equals_that_of_scikit_learn(seed, classes):
    labels, truth = random_maps(np.random.default_rng(seed), classes, (20, 17))
    kept = truth != unlabelled(classes)
    if not kept.any():
        return
    predicted = np.where(labels == unlabelled(classes), classes, labels)
    expected = confusion_matrix(truth[kept], predicted[kept], labels=np.arange(classes + 1))
    np.testing.assert_array_equal(count(labels, truth, classes), expected[:-1])


def test_long_runs_and_scattered_pixels_are_counted_alike():
    random = np.random.default_rng(0)
    labels, truth = random_maps(random, 171, (512, 512), block=64)
    order = random.permutation(labels.size)
    np.testing.assert_array_equal(count(labels, truth, 171), count(labels.ravel()[order], truth.ravel()[order], 171))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64, np.uint8])
def test_the_integer_type_does_not_matter(dtype):
    labels, truth = random_maps(np.random.default_rng(1), 12, (9, 9))
    np.testing.assert_array_equal(count(labels.astype(dtype), truth.astype(dtype), 12), count(labels, truth, 12))


def test_ignored_truth_counts_nowhere_and_a_pixel_labelled_none_counts_against_its_class():
    counts = count(np.array([[0, 1, 255, 1]], np.uint8), np.array([[255, 1, 1, 0]], np.uint8), 2)
    assert counts.tolist() == [[0, 1, 0], [0, 1, 1]]
    assert tally(counts).tolist() == [[0, 1], [0, 1], [1, 1]]


def test_65535_is_ignored_below_256_classes_too():
    counts = count(np.array([0, 65_535], np.uint16), np.array([65_535, 1], np.uint16), 2)
    assert counts.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_255_is_a_class_above_255_classes_save_in_bytes():
    one = np.array([255])
    assert count(one.astype(np.uint16), one.astype(np.uint16), 300)[255, 255] == 1
    assert count(one.astype(np.uint16), one.astype(np.uint8), 300).sum() == 0


@pytest.mark.parametrize(("value", "dtype"), [(7, np.uint8), (254, np.uint8), (-1, np.int16), (256, np.int32)])
def test_a_truth_that_is_no_class_is_refused_by_its_value(value, dtype):
    with pytest.raises(DataError, match=rf"ground truth holds the value {value}, but there are 7 classes"):
        count(np.zeros((2, 2), np.uint8), np.full((2, 2), value, dtype), 7)


@pytest.mark.parametrize("classes", [7, 300])
def test_a_prediction_that_is_no_class_is_refused_by_its_value(classes):
    labels = np.full((2, 2), classes, np.uint8 if classes < 255 else np.uint16)
    with pytest.raises(DataError, match=f"prediction holds the value {classes}"):
        count(labels, np.zeros_like(labels), classes)


def test_maps_of_different_size_and_maps_of_fractions_are_refused():
    with pytest.raises(DataError, match="resize the label map"):
        count(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
    with pytest.raises(DataError, match="give integers"):
        count(np.zeros((2, 2)), np.zeros((2, 2), np.uint8), 2)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 6))
def test_shards_add_up_to_the_whole_in_any_order(seed, cut):
    random = np.random.default_rng(seed)
    pairs = [random_maps(random, 5, (6, 7)) for _ in range(6)]
    whole, first, second = Confusion.empty(5), Confusion.empty(5), Confusion.empty(5)
    for index, (labels, truth) in enumerate(pairs):
        whole.update(labels, truth, image=f"{index}")
        (first if index < cut else second).update(labels, truth, image=f"{index}")
    assert (first + second).to_json() == (second + first).to_json() == whole.to_json()


def test_the_images_add_up_to_the_matrix():
    random = np.random.default_rng(3)
    confusion = Confusion.empty(9)
    for index in range(5):
        confusion.update(*random_maps(random, 9, (8, 8), block=4), image=f"{index}")
    summed = np.zeros((3, 9), dtype=np.int64)
    for table in confusion.images.values():
        summed[:, table[:, 0]] += table[:, 1:].T
    np.testing.assert_array_equal(summed, confusion.tallies)


def test_rows_leave_out_the_classes_an_image_does_not_touch():
    assert rows(np.array([[0, 4, 0], [0, 0, 0], [0, 1, 2]])).tolist() == [[1, 4, 0, 1], [2, 0, 0, 2]]


def test_json_keeps_everything():
    confusion = Confusion.empty(300)
    confusion.update(*random_maps(np.random.default_rng(4), 300, (30, 30)), image="a")
    confusion.update(*random_maps(np.random.default_rng(5), 300, (30, 30)))
    back = Confusion.from_json(json.loads(json.dumps(confusion.to_json())))
    np.testing.assert_array_equal(back.counts, confusion.counts)
    assert back.to_json() == confusion.to_json()
    assert back.classes == 300


@pytest.mark.parametrize("data", [{}, {"classes": 2, "truth": [5], "predicted": [0], "pixels": [1], "images": {}}])
def test_other_json_is_refused(data):
    with pytest.raises(DataError, match="not a saved confusion matrix"):
        Confusion.from_json(data)


def test_an_image_cannot_be_counted_twice():
    one, zeros = Confusion.empty(2), np.zeros((2, 2), np.uint8)
    one.update(zeros, zeros, image="a")
    with pytest.raises(DataError, match="'a' is counted twice"):
        one.update(zeros, zeros, image="a")
    with pytest.raises(DataError, match="'a' is in both shards"):
        one + one
    assert one.counts.sum() == 4


def test_matrices_of_different_classes_cannot_be_added():
    with pytest.raises(DataError, match="2 and 3 classes"):
        Confusion.empty(2) + Confusion.empty(3)
