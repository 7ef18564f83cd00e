"""Baselines equal label maps that were really drawn and counted."""

from __future__ import annotations

import numpy as np
import pytest

from lexiseg.evaluation.baselines import baselines
from lexiseg.metrics.confusion import Confusion
from lexiseg.metrics.scores import score

CLASSES = 5


def truths() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.choice([*range(CLASSES), 255], (20, 20), p=random.dirichlet([0.4] * 6)) for _ in range(12)]


def counted(guess: object) -> dict[str, float]:
    confusion = Confusion.empty(CLASSES)
    for place, truth in enumerate(truths()):
        confusion.update(guess(truth), truth, image=str(place))  # type: ignore[operator]
    return score(confusion.tallies)


def pixels(truth: np.ndarray) -> np.ndarray:
    return np.bincount(truth.ravel(), minlength=256)[:CLASSES]


def measured(**options: bool) -> dict[str, dict[str, float]]:
    confusion = Confusion.empty(CLASSES)
    for place, truth in enumerate(truths()):
        confusion.update(np.zeros_like(truth), truth, image=str(place))  # the prediction must not matter
    return baselines(confusion, **options)


@pytest.mark.parametrize("key", ["miou", "pixel_accuracy"])
def test_the_majority_class_is_the_one_with_most_pixels_of_all(key: str) -> None:
    total = sum(pixels(truth) for truth in truths())
    expected = counted(lambda truth: np.full_like(truth, int(total.argmax())))
    assert measured()["majority class"][key] == pytest.approx(expected[key])


@pytest.mark.parametrize("key", ["miou", "pixel_accuracy"])
def test_the_largest_class_is_that_of_each_image(key: str) -> None:
    expected = counted(lambda truth: np.full_like(truth, int(pixels(truth).argmax())))
    assert measured()["largest class of each image"][key] == pytest.approx(expected[key])
    assert measured(own_words=True)["largest class of each image"][key] == pytest.approx(expected[key])


@pytest.mark.parametrize("key", ["miou", "pixel_accuracy"])
def test_random_is_what_random_labels_score_on_average(key: str) -> None:
    random = np.random.default_rng(0)
    drawn = [counted(lambda truth: random.integers(CLASSES, size=truth.shape))[key] for _ in range(30)]
    assert measured()["random"][key] == pytest.approx(np.mean(drawn), abs=0.005)
    assert measured()["random"]["pixel_accuracy"] == pytest.approx(1 / CLASSES)


def test_random_among_own_words_takes_one_of_those_in_the_image() -> None:
    random = np.random.default_rng(0)

    def guess(truth: np.ndarray) -> np.ndarray:
        return random.choice(np.unique(truth[truth < CLASSES]), truth.shape)

    drawn = [counted(guess)["pixel_accuracy"] for _ in range(30)]
    assert measured(own_words=True)["random"]["pixel_accuracy"] == pytest.approx(np.mean(drawn), abs=0.01)
