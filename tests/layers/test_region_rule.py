"""The rule of two softmaxes against a loop over regions and classes (docs/papers/segclip.md §3.8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lexiseg.errors import SettingError
from lexiseg.layers.region_rule import CERTAIN, ProductRule, region_logits
from lexiseg.segmenter import TextClassifier
from lexiseg.vocabulary import Vocabulary

WIDTH, REGIONS = 12, 4
SIX = Vocabulary("cat, dog, sky, road, tree, car")


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def classifier(words: Vocabulary, *, scale: float = 8.0) -> TextClassifier:
    weight = functional.normalize(randn(len(words.queries), WIDTH, seed=1), dim=1)
    return TextClassifier.of(words, weight, scale)


def by_hand(features: Tensor, image: Tensor, words: TextClassifier, threshold: float, most: int) -> NDArray[np.float64]:
    """One image, number by number, without background words."""
    cosine = functional.cosine_similarity
    logits = [[words.scale * float(cosine(region, word, dim=0)) for word in words.weight] for region in features]
    shown = sorted(range(len(words.weight)), key=lambda at: -float(cosine(image, words.weight[at], dim=0)))[:most]
    product = []
    for row in logits:
        pre = [math.exp(each) / sum(map(math.exp, row)) for each in row]
        some = sum(math.exp(row[at]) for at in shown)
        post = [math.exp(each) / some if at in shown else 0.0 for at, each in enumerate(row)]
        product.append([one * other for one, other in zip(pre, post, strict=True)])
    least = min(threshold, max(map(max, product)))
    return np.array([[*row, float(max(row) < least)] for row in product])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("most", [1, 5, 50])
def test_scores_are_those_of_a_loop(threshold: float, most: int) -> None:
    features, image, words = randn(3, REGIONS, WIDTH), randn(3, WIDTH, seed=2), classifier(SIX)
    found = ProductRule(threshold, most).scores(features, image, words)
    for place in range(3):
        wanted = by_hand(features[place].double(), image[place].double(), words, threshold, most)
        np.testing.assert_allclose(found[place], wanted, atol=2e-6)


def test_the_best_region_is_never_background_unless_the_threshold_stands() -> None:
    features, image, words = randn(20, REGIONS, WIDTH), randn(20, WIDTH, seed=2), classifier(SIX, scale=0.1)
    adaptive = ProductRule(1.0).scores(features, image, words)
    assert ((adaptive[..., -1] == CERTAIN).sum(1) == REGIONS - 1).all()
    best = adaptive[..., :-1].amax(2).argmax(1)
    assert (adaptive[torch.arange(20), best, -1] == 0).all()
    assert (ProductRule(1.0, adaptive=False).scores(features, image, words)[..., -1] == CERTAIN).all()


def test_fewer_classes_than_an_image_may_show_all_count() -> None:
    words = classifier(Vocabulary("cat"))
    found = ProductRule(0.9).scores(randn(1, REGIONS, WIDTH), randn(1, WIDTH, seed=2), words)
    assert torch.equal(found, torch.tensor([1.0, 0.0]).expand(1, REGIONS, 2))


def test_a_class_is_as_near_as_its_best_word() -> None:
    words = classifier(Vocabulary([("cat", "kitty"), "dog"]))
    found = region_logits(randn(2, REGIONS, WIDTH), words)
    cosines = 8 * functional.normalize(randn(2, REGIONS, WIDTH), dim=2) @ words.weight.T
    torch.testing.assert_close(found[..., 0], cosines[..., :2].amax(2))
    torch.testing.assert_close(found[..., 1], cosines[..., 2])


def test_words_for_the_background_take_no_place_of_a_class() -> None:
    """The scores of the classes that an image shows are products over all classes, the background among them."""
    features, image = randn(1, REGIONS, WIDTH), randn(1, WIDTH, seed=2)
    words = classifier(SIX.with_background("wall"))
    found = ProductRule(0.0, 2).scores(features, image, words)
    assert found.shape == (1, REGIONS, 7)
    assert ((found[0] > 0).sum(1) == 3).all()
    logits = region_logits(features, words)[0]
    shown = (8 * functional.normalize(image, dim=1) @ words.weight[:6].T).topk(2).indices[0].tolist()
    pre, post = logits.softmax(1), logits[:, [*shown, 6]].softmax(1)
    torch.testing.assert_close(found[0][:, [*shown, 6]], pre[:, [*shown, 6]] * post)
    nothing = ProductRule(1.0, 2, adaptive=False).scores(features, image, words)
    assert (nothing[..., -1] == CERTAIN).all()


def test_half_precise_vectors_are_compared_in_float32() -> None:
    assert region_logits(randn(1, REGIONS, WIDTH).half(), classifier(SIX)).dtype == torch.float32


@pytest.mark.parametrize(("threshold", "most"), [(-0.1, 5), (1.1, 5), (0.5, 0)])
def test_a_mistake_is_a_sentence(threshold: float, most: int) -> None:
    with pytest.raises(SettingError, match="must be"):
        ProductRule(threshold, most)
