"""InfoNCE against its closed form in double precision, its limits and its symmetry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor
from torch.nn import functional

from lexiseg.losses.contrastive import info_nce, multi_label_nce


def unit(seed: int, rows: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, 5, generator=generator, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_it_is_the_mean_of_both_directions_log_loss(scale: float) -> None:
    images, texts = unit(0), unit(1)
    logits = scale * images.numpy() @ texts.numpy().T
    own = np.diag(logits)
    closed = (np.mean(logsumexp(logits, axis=1) - own) + np.mean(logsumexp(logits, axis=0) - own)) / 2
    assert float(info_nce(images, texts, scale)) == pytest.approx(closed, rel=1e-12)


def test_its_gradient_in_a_pair_is_softmax_minus_one_hot_of_both_directions() -> None:
    """The analytic gradient that gradient caching uses (docs/papers/simseg.md §2.4)."""
    images, texts = unit(0).requires_grad_(), unit(1)
    info_nce(images, texts, 10.0).backward()
    logits = 10.0 * images.detach() @ texts.T
    share = logits.softmax(dim=1) + logits.softmax(dim=0) - 2 * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(images.grad, share @ texts * 10.0 / (2 * 6))


def test_equal_vectors_cost_the_logarithm_of_the_batch() -> None:
    same = unit(0, 1).expand(7, -1)
    assert float(info_nce(same, same, 100.0)) == pytest.approx(math.log(7))


def test_swapping_images_and_texts_changes_nothing_and_shuffling_pairs_together_neither() -> None:
    images, texts = unit(0), unit(1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(2))
    loss = info_nce(images, texts, 20.0)
    torch.testing.assert_close(info_nce(texts, images, 20.0), loss)
    torch.testing.assert_close(info_nce(images[order], texts[order], 20.0), loss)
    assert not torch.isclose(info_nce(images[order], texts, 20.0), loss)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_several_texts_share_an_image_and_each_text_has_one(scale: float) -> None:
    """GroupViT's loss of prompts, sentence by sentence (docs/papers/groupvit.md §5.4)."""
    batch, count = 4, 3
    images, texts = unit(0, batch), unit(1, batch * count).view(batch, count, -1)
    logits = scale * images.numpy() @ texts.flatten(0, 1).numpy().T  # [B, B K]
    to_texts = to_images = 0.0
    for image in range(batch):
        whole = logsumexp(logits[image])
        for each in range(count):
            column = image * count + each
            to_texts -= (logits[image, column] - whole) / count / batch
            to_images -= (logits[image, column] - logsumexp(logits[:, column])) / (batch * count)
    assert float(multi_label_nce(images, texts, scale)) == pytest.approx((to_texts + to_images) / 2, rel=1e-12)


def test_one_text_of_each_image_is_the_usual_loss() -> None:
    images, texts = unit(0), unit(1)
    one = multi_label_nce(images, texts[:, None], 10.0)
    torch.testing.assert_close(one, info_nce(images, texts, 10.0))


def test_the_order_of_an_images_texts_does_not_matter() -> None:
    images, texts = unit(0), unit(1, 18).view(6, 3, -1)
    turned = texts[:, [2, 0, 1]]
    torch.testing.assert_close(multi_label_nce(images, texts, 10.0), multi_label_nce(images, turned, 10.0))
