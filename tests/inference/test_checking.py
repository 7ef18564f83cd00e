"""What a method may return, what it is told otherwise, and what becomes of numbers that are not finite."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lexiseg.errors import LexisegError, MethodError
from lexiseg.inference.checking import check, check_covers, sound
from lexiseg.segmenter import DenseLogits, MaskScores
from lexiseg.vocabulary import Vocabulary

WORDS = Vocabulary("cat, dog, sky")
GROUND = WORDS.with_background("wall")


def logits(channels: int = 3, batch: int = 1) -> torch.Tensor:
    return torch.zeros(batch, channels, 4, 5)


def masks(count: int = 2, rows: int = 2, channels: int = 3, **changes: object) -> MaskScores:
    return replace(MaskScores(torch.zeros(1, count, 4, 5), torch.zeros(1, rows, channels)), **changes)


@pytest.mark.parametrize(
    ("result", "vocabulary"),
    [
        (DenseLogits(logits()), WORDS),
        (DenseLogits(logits(4), background=True), WORDS),
        (DenseLogits(logits(4), background=True), GROUND),
        (DenseLogits(logits().half(), covers=(32, 64)), WORDS),
        (masks(), WORDS),
        (masks(0, 0), WORDS),
        (masks(channels=4, background=True, weights="linear"), GROUND),
    ],
)
def test_what_the_contract_allows_comes_back_as_it_is(result, vocabulary):
    assert check(result, "Toy.classify", vocabulary) is result


@pytest.mark.parametrize(
    ("result", "vocabulary", "message"),
    [
        (logits(), WORDS, "returned a Tensor; return DenseLogits or MaskScores"),
        (None, WORDS, "returned a NoneType; return DenseLogits or MaskScores"),
        (DenseLogits(logits()[0]), WORDS, r"returned logits of shape \[3, 4, 5\]; return \[1, C, h, w\]"),
        (DenseLogits(logits(batch=2)), WORDS, r"shape \[2, 3, 4, 5\] for an embedding of one image"),
        (DenseLogits(logits()[:, :, :0]), WORDS, r"shape \[1, 3, 0, 5\], whose grid is empty"),
        (DenseLogits(logits().long()), WORDS, "logits of torch.int64; return floating-point numbers"),
        (DenseLogits([[1.0]]), WORDS, r"logits of type list; return a tensor \[1, C, h, w\]"),
        (DenseLogits(logits(2)), WORDS, "2 channels for a vocabulary of 3 and no background; return 3, one for each"),
        (DenseLogits(logits(4)), WORDS, "4 channels for a vocabulary of 3 and no background; return 3"),
        (DenseLogits(logits(3), True), WORDS, "3 channels .* and a background; return 4, .* and then the background"),
        (DenseLogits(logits(4)), GROUND, "background=False for a vocabulary with background words"),
        (DenseLogits(logits(), covers=32), WORDS, r"covers=32; give \(height, width\) in pixels of the input"),
        (DenseLogits(logits(), covers=(32, 0)), WORDS, r"covers=\(32, 0\); give"),
        (masks(2, 3), WORDS, "2 masks and scores of 3; return a row of scores for every mask"),
        (masks(channels=2), WORDS, "2 channels for a vocabulary of 3"),
        (masks(masks=torch.zeros(1, 4, 5)), WORDS, r"masks of shape \[1, 4, 5\]; return \[1, N, h, w\]"),
        (masks(scores=torch.zeros(2, 3)), WORDS, r"scores of shape \[2, 3\]; return \[1, N, C\]"),
        (masks(weights="soft"), WORDS, "weights='soft'; give 'sigmoid' or 'linear'"),
    ],
)
def test_a_mistake_of_a_method_is_a_sentence_that_names_it(result, vocabulary, message):
    with pytest.raises(MethodError, match=f"^Toy.classify .*{message}"):
        check(result, "Toy.classify", vocabulary)


@pytest.mark.parametrize("covers", [None, (640, 853), (640, 864), (1024, 1024), (637, 850)])
def test_a_grid_may_cover_more_than_the_input_and_leave_out_less_than_a_cell(covers):
    check_covers(covers, (160, 214), (640, 853), "Toy.classify")


@pytest.mark.parametrize("covers", [(160, 214), (864, 640), (4, 4), (636, 853)])
def test_a_grid_that_leaves_cells_of_the_input_out_is_a_mistake(covers):
    with pytest.raises(MethodError, match=r"^Toy.classify returned covers .* the input has 640 x 853"):
        check_covers(covers, (160, 214), (640, 853), "Toy.classify")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_results_of_any_float_type_become_float32(dtype):
    mixed = MaskScores(torch.rand(1, 2, 3, 3).to(dtype), torch.rand(1, 2, 3))
    assert sound(DenseLogits(logits().to(dtype))).logits.dtype == torch.float32
    assert sound(mixed).masks.dtype == sound(mixed).scores.dtype == torch.float32
    assert torch.equal(sound(mixed).masks, mixed.masks.float())


def test_sound_logits_are_not_copied():
    result = DenseLogits(logits(), covers=(8, 8))
    assert sound(result).logits is result.logits
    assert sound(result).covers == (8, 8)


def test_minus_infinity_loses_to_every_finite_logit():
    result = DenseLogits(torch.tensor([-torch.inf, -5.0, 3.0]).view(1, 3, 1, 1))
    assert sound(result).logits.isfinite().all()
    assert sound(result).logits.flatten().tolist() == [-10_005, -5, 3]


def test_logits_that_are_all_minus_infinity_are_refused():
    with pytest.raises(LexisegError, match="18 of 18 logits"):
        sound(DenseLogits(torch.full((1, 2, 3, 3), -torch.inf)))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_not_numbers_are_refused(wrong):
    values = logits()
    values[0, 1, 2, 0] = wrong
    with pytest.raises(LexisegError, match=r"1 of 60 logits .* dtype='fp32'"):
        sound(DenseLogits(values))


@pytest.mark.parametrize("weights", ["sigmoid", "linear"])
def test_no_masks_are_one_that_is_nowhere(weights):
    result = sound(masks(0, 0, weights=weights, covers=(8, 8)))
    assert result.masks.shape == (1, 1, 4, 5)
    assert result.weigh(result.masks).sum() == 0
    assert result.scores.tolist() == [[[0, 0, 0]]]
    assert (result.weights, result.covers) == (weights, (8, 8))


def test_infinite_masks_are_everywhere_or_nowhere():
    result = sound(masks(masks=torch.tensor([torch.inf, -torch.inf]).view(1, 2, 1, 1)))
    assert result.masks.isfinite().all()
    assert result.weigh(result.masks).flatten().tolist() == [1, 0]


@pytest.mark.parametrize("field", ["masks", "scores"])
@pytest.mark.parametrize("weights", ["sigmoid", "linear"])
def test_masks_and_scores_that_are_nan_are_refused(field, weights):
    result = masks(weights=weights)
    getattr(result, field)[0, 1, 2] = torch.nan
    with pytest.raises(LexisegError, match=r"NaN.*fp32"):
        sound(result)


def test_linear_weights_are_finite_and_not_below_zero():
    with pytest.raises(LexisegError, match="2 of 2 weights of the masks are NaN or infinite"):
        sound(masks(masks=torch.full((1, 2, 1, 1), torch.inf), weights="linear"))
    with pytest.raises(MethodError, match=r"weights of 0 or more, and the smallest is -0\.25; clamp them"):
        sound(masks(masks=torch.full((1, 2, 1, 1), -0.25), weights="linear"))
