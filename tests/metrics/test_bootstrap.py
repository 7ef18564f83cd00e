"""Bootstrap intervals against the binomial distribution, and the pairing of two models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lexiseg.errors import DataError
from lexiseg.metrics import scores
from lexiseg.metrics.bootstrap import Bootstrap, differences, intervals
from lexiseg.metrics.confusion import Confusion


def one_pixel_images(right):
    """Images of one pixel of class 0, labelled right or not: the pixel accuracy is a mean of coin tosses."""
    confusion = Confusion.empty(2)
    for index, hit in enumerate(right):
        confusion.update(np.array([[0 if hit else 1]], np.uint8), np.zeros((1, 1), np.uint8), image=f"{index:05d}")
    return confusion.images


def noisy(seed, *, noise, images=30, classes=6):
    confusion = Confusion.empty(classes)
    truths = np.random.default_rng(99)
    random = np.random.default_rng(seed)
    for index in range(images):
        truth = truths.integers(0, classes, (8, 8)).astype(np.uint8)
        wrong = random.random(truth.shape) < noise * (1 + index % 3)
        labels = np.where(wrong, random.integers(0, classes, truth.shape), truth).astype(np.uint8)
        confusion.update(labels, truth, image=f"{index}")
    return confusion


def test_the_interval_of_coin_tosses_is_the_binomial_one():
    right = np.random.default_rng(0).random(400) < 0.7
    found = intervals(one_pixel_images(right), Bootstrap(2, replicates=4000, seed=1))["pixel_accuracy"]
    low, high = stats.binom(400, right.mean()).ppf([0.025, 0.975]) / 400
    assert found.value == pytest.approx(right.mean())
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(5)
    covered = 0
    for trial in range(100):
        images = one_pixel_images(random.random(150) < 0.6)
        found = intervals(images, Bootstrap(2, replicates=300, level=0.9, seed=trial))["pixel_accuracy"]
        covered += found.low <= 0.6 <= found.high
    assert 82 <= covered <= 97  # 90 expected; a binomial of 100 draws leaves this range once in 200


def test_draws_equal_a_loop_that_sums_the_drawn_images():
    confusion = noisy(1, noise=0.2, images=7)
    found = intervals(confusion.images, Bootstrap(6, replicates=50, seed=3, level=0.8))
    random = np.random.default_rng(3)
    names, values = sorted(confusion.images), []
    for drawn in random.integers(7, size=(50, 7)):
        tallies = np.zeros((3, 6))
        for index in drawn:
            table = confusion.images[names[index]]
            tallies[:, table[:, 0]] += table[:, 1:].T
        values.append(scores.score(tallies)["miou"])
    np.testing.assert_allclose([found["miou"].low, found["miou"].high], np.quantile(values, [0.1, 0.9]))


def test_every_score_has_its_interval_and_the_value_of_the_whole_set():
    confusion = noisy(1, noise=0.2)
    subsets = {"seen": [True] * 3 + [False] * 3, "unseen": [False] * 3 + [True] * 3}
    found = intervals(confusion.images, Bootstrap(6, replicates=200, subsets=subsets))
    expected = scores.score(confusion.tallies, subsets=subsets)
    assert found.keys() == expected.keys()
    for name, interval in found.items():
        assert interval.value == pytest.approx(expected[name])
        assert interval.low < interval.value < interval.high


def test_the_seed_and_the_images_alone_decide():
    confusion = noisy(1, noise=0.2)
    shuffled = dict(reversed(confusion.images.items()))
    first = intervals(confusion.images, Bootstrap(6, replicates=100, seed=4))
    assert first == intervals(shuffled, Bootstrap(6, replicates=100, seed=4))
    assert first != intervals(confusion.images, Bootstrap(6, replicates=100, seed=5))


def test_pairing_sees_a_difference_that_two_intervals_hide():
    better, worse = noisy(1, noise=0.10).images, noisy(1, noise=0.13).images
    first, second = intervals(better, Bootstrap(6))["miou"], intervals(worse, Bootstrap(6))["miou"]
    gap = differences(better, worse, Bootstrap(6))["miou"]
    assert first.low < second.high  # apart, they overlap
    assert gap.low > 0
    assert gap.value == pytest.approx(first.value - second.value)
    assert gap.wins > 0.97


def test_a_model_against_itself_is_a_tie():
    images = noisy(1, noise=0.2).images
    gap = differences(images, images, Bootstrap(6, replicates=50))["miou"]
    assert (gap.value, gap.low, gap.high, gap.wins) == (0, 0, 0, 0.5)


def test_models_scored_on_other_images_cannot_be_paired():
    images = noisy(1, noise=0.2).images
    with pytest.raises(DataError, match="'29' for one"):
        differences(images, {name: table for name, table in images.items() if name != "29"}, Bootstrap(6))


def test_no_images_is_an_error_and_no_score_is_nan():
    with pytest.raises(DataError, match="no images to draw"):
        intervals({}, Bootstrap(2))
    found = intervals(one_pixel_images([True]), Bootstrap(2, replicates=5, subsets={"nobody": [False, False]}))
    assert np.isnan(found["miou_nobody"].low)
