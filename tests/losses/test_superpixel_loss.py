"""The superpixel loss on hand-made assignments, and the ids of patches (docs/papers/segclip.md §3.6)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from skimage.data import astronaut
from skimage.segmentation import felzenszwalb
from torch import Tensor
from torch.nn import functional

from lexiseg.losses.superpixel_loss import patch_ids, superpixel_loss

REGIONS = 8


def one_hot(*regions: int) -> Tensor:
    return functional.one_hot(torch.tensor(regions), REGIONS).double()[None]


def by_hand(assignment: Tensor, ids: list[int]) -> float:
    """Eq. 5 and 6 of one image: the sum of both divergences over patches."""
    rows, total = assignment[0].detach().numpy(), 0.0
    for patch, number in enumerate(ids):
        mean = softmax(np.mean([rows[at] for at, other in enumerate(ids) if other == number], axis=0))
        one = softmax(rows[patch])
        total += rel_entr(mean, one).sum() + rel_entr(one, mean).sum()
    return float(total)


def test_a_softmax_of_a_one_hot_row_is_flat() -> None:
    """0.2797 on the chosen centre and 0.1029 elsewhere, which is where the two values below come from."""
    chosen, other = softmax([1, 0, 0, 0, 0, 0, 0, 0])[:2]
    assert (chosen, other) == pytest.approx((0.2797, 0.1029), abs=5e-5)


def test_two_patches_of_one_superpixel_in_two_regions() -> None:
    """The means are e^½ / (2 e^½ + 6) on both regions."""
    ends, rest = math.sqrt(math.e), 2 * math.sqrt(math.e) + 6
    mean, single = np.array([ends, ends] + [1] * 6) / rest, np.array([math.e, 1] + [1] * 6) / (math.e + 7)
    each = ((mean - single) * np.log(mean / single)).sum()
    found = superpixel_loss(one_hot(0, 1), torch.tensor([[7, 7]]), normalise="paper")
    assert float(found) == pytest.approx(2 * each, rel=1e-12)


@pytest.mark.parametrize("ids", [[0, 0, 0, 0, 0], [3, 1, 3, 1, 3], [0, 1, 2, 3, 4]])
def test_it_is_the_sum_of_both_divergences(ids: list[int]) -> None:
    assignment = one_hot(0, 1, 1, 5, 0)
    found = superpixel_loss(assignment, torch.tensor([ids]), normalise="paper")
    assert float(found) == pytest.approx(by_hand(assignment, ids), abs=1e-12)
    released = superpixel_loss(assignment, torch.tensor([ids]))
    assert float(released) == pytest.approx(by_hand(assignment, ids) / (2 * 5 * REGIONS), abs=1e-12)


def test_at_the_papers_size_the_code_divides_by_3136() -> None:
    random = torch.Generator().manual_seed(0)
    assignment = functional.one_hot(torch.randint(REGIONS, (2, 196), generator=random), REGIONS).double()
    ids = torch.randint(12, (2, 196), generator=random)
    paper, released = (superpixel_loss(assignment, ids, normalise=each) for each in ("paper", "released"))  # type: ignore[arg-type]
    torch.testing.assert_close(released * 3136, paper)


def test_nothing_is_lost_where_each_superpixel_is_in_one_region() -> None:
    assert float(superpixel_loss(one_hot(2, 2, 4, 2), torch.tensor([[5, 5, 1, 0]]))) == pytest.approx(0, abs=1e-15)


def test_the_order_of_patches_and_the_numbers_of_superpixels_do_not_matter() -> None:
    assignment, ids = one_hot(0, 1, 1, 5, 0), torch.tensor([[3, 1, 3, 1, 3]])
    order = torch.tensor([4, 2, 0, 1, 3])
    moved = superpixel_loss(assignment[:, order], 10 - ids[:, order])
    torch.testing.assert_close(moved, superpixel_loss(assignment, ids))


def test_the_gradient_is_that_of_both_sides_unless_the_mean_only_teaches() -> None:
    logits = torch.randn(1, 6, REGIONS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    ids = torch.tensor([[0, 0, 1, 1, 1, 2]])
    assert torch.autograd.gradcheck(lambda x: superpixel_loss(x, ids), (logits,))
    means = torch.stack([logits[0, ids[0] == number].mean(0) for number in ids[0]]).softmax(1).detach()
    own = logits[0].log_softmax(1)
    expected = ((means - own.exp()) * (means.log() - own)).sum() / (2 * 6 * REGIONS)
    (wanted,) = torch.autograd.grad(expected, logits)
    (found,) = torch.autograd.grad(superpixel_loss(logits, ids, stop_gradient=True).sum(), logits)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, torch.autograd.grad(superpixel_loss(logits, ids).sum(), logits)[0])


# --- ids


def test_a_patch_has_the_mean_number_of_its_pixels_rounded_down() -> None:
    picture = astronaut()[:64, 100:180]
    labels = felzenszwalb(picture, scale=5, sigma=0.5, min_size=10)
    found = patch_ids(torch.from_numpy(labels)[None].int(), 16)
    wanted = [
        math.floor(labels[top : top + 16, left : left + 16].mean())
        for top in range(0, 64, 16)
        for left in range(0, 80, 16)
    ]
    assert found.tolist() == [wanted]
    assert len(set(wanted)) > 3


def test_a_patch_between_two_superpixels_may_count_to_a_third_but_not_by_majority() -> None:
    """The quirk of the paper's rule."""
    labels = torch.full((1, 4, 8), 5)
    labels[0, :, :2], labels[0, :, 2:4], labels[0, 0, 2] = 2, 8, 2
    assert patch_ids(labels, 4).tolist() == [[4, 5]]
    labels[0, 0, 2] = 8
    assert patch_ids(labels, 4).tolist() == [[5, 5]]
    assert patch_ids(labels, 4, "majority").tolist() == [[2, 5]]  # the smaller of two


def test_a_rest_of_a_patch_is_filled_with_what_is_at_the_border() -> None:
    labels = torch.arange(6).view(1, 1, 6).expand(2, 3, 6).int()
    found = patch_ids(labels, 4)
    assert found.tolist() == [[1, 4]] * 2  # (0 + 1 + 2 + 3) / 4 and (4 + 5 + 5 + 5) / 4, rounded down
