"""Masks that are named, one at a time."""

from __future__ import annotations

import torch
from torch.nn import functional

from lexiseg.proposals._mask_embedding import MaskEmbedding
from lexiseg.segmenter import TextClassifier
from lexiseg.vocabulary import Vocabulary


def test_each_mask_is_compared_with_the_words_and_what_is_not_there_shows_nothing() -> None:
    torch.manual_seed(0)
    vocabulary = Vocabulary([("cat", "kitten"), "sky"]).with_background("wall")
    words = functional.normalize(torch.randn(4, 8), dim=1)
    classifier = TextClassifier.of(vocabulary, words, 20.0)
    masks, features = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 8)
    valid = torch.tensor([[True, True, True], [True, False, True]])
    found = MaskEmbedding(masks, valid, features, (40, 48)).named(classifier)
    assert (found.background, found.covers, found.weights) == (True, (40, 48), "sigmoid")
    for image in range(2):
        for mask in range(3):
            cosines = words @ functional.normalize(features[image, mask], dim=0)
            best = torch.stack([cosines[:2].max(), cosines[2], cosines[3]])
            wanted = (20 * best).softmax(0) * valid[image, mask]
            assert torch.allclose(found.scores[image, mask], wanted, atol=1e-5)
    assert torch.equal(found.masks[valid], masks[valid])
    assert (found.masks[~valid].sigmoid() == 0).all()
