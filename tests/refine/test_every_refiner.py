"""A contract over every file of `refine/`, alone and through the predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg import Vocabulary, catalog
from lexiseg.errors import ImageError, LexisegError, SettingError
from lexiseg.inference.predictor import Predictor
from lexiseg.refine import _candidates
from lexiseg.refine._candidates import candidates
from lexiseg.refine.crf import dense_crf
from lexiseg.refine.pamr import pamr
from lexiseg.segmenter import DenseEmbedding, DenseLogits, Inference, MaskScores, Segmenter, TextClassifier, Traits

from .exact import photograph

WHOLE = {"crf": dense_crf, "pamr": pamr}  # posterior [C, H, W] and RGB to the refined posterior of all classes


@pytest.fixture(params=catalog.names("refine"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def refiner(name: str) -> Any:
    return catalog.get("refine", name)


@pytest.fixture
def rgb() -> np.ndarray:
    return photograph("astronaut", 48)[:, :40].copy()


def random_logits(classes: int, grid: tuple[int, int] = (6, 5), seed: int = 0) -> Tensor:
    return 2 * torch.randn(classes, *grid, generator=torch.Generator().manual_seed(seed))


def upsampled(logits: Tensor, size: tuple[int, int] = (48, 40)) -> Tensor:
    return F.interpolate(logits[None], size, mode="bilinear")[0]


# alone


def test_the_shelf_is_what_the_command_line_names():
    assert catalog.names("refine") == ["crf", "pamr"]


def test_the_result_is_the_refined_posterior_at_the_size_of_the_picture(name, refiner, rgb):
    logits = random_logits(7)
    expected = WHOLE[name](upsampled(logits).softmax(0), rgb)
    assert torch.allclose(refiner.refine(logits, rgb).softmax(0), expected, atol=1e-4)


def test_order_of_classes_only_permutes_channels(refiner, rgb):
    logits, order = random_logits(5), [4, 2, 0, 3, 1]
    assert torch.allclose(refiner.refine(logits[order], rgb), refiner.refine(logits, rgb)[order], atol=1e-3)


def test_a_constant_added_to_all_logits_changes_no_posterior(refiner, rgb):
    logits = random_logits(5)
    shifted = refiner.refine(logits + 100, rgb).softmax(0)
    assert torch.allclose(shifted, refiner.refine(logits, rgb).softmax(0), atol=1e-4)


def test_logits_given_are_left_as_they_are(refiner, rgb):
    logits = random_logits(4, (48, 40))
    before = logits.clone()
    refiner.refine(logits, rgb)
    assert torch.equal(logits, before)


def test_one_class_takes_every_pixel(refiner, rgb):
    assert refiner.refine(random_logits(1), rgb).shape == (1, 48, 40)


def test_a_class_that_was_ruled_out_never_wins(refiner, rgb):
    logits = random_logits(4)
    logits[2] = -torch.inf
    refined = refiner.refine(logits, rgb)
    assert refined.isfinite().all()
    assert not (refined.argmax(0) == 2).any()


def test_logits_far_apart_stay_finite(refiner, rgb):
    logits = 1000 * random_logits(4)
    assert refiner.refine(logits, rgb).isfinite().all()


def test_classes_that_cannot_win_make_no_difference(name, refiner, rgb):
    """40 classes, of which 6 are in the picture: the result equals that of refining all 40."""
    logits = random_logits(40)
    logits[6:] -= 25
    assert len(candidates(logits, 32)) == 6
    found = refiner.refine(logits, rgb).softmax(0)
    expected = WHOLE[name](upsampled(logits).softmax(0), rgb)
    assert torch.equal(found.argmax(0), expected.argmax(0))
    assert torch.allclose(found, expected, atol=1e-4)


def test_above_the_number_of_candidates_the_others_keep_their_posterior(refiner, rgb):
    logits = random_logits(9)
    chosen = candidates(logits, 3)
    others = [index for index in range(9) if index not in chosen.tolist()]
    before, after = (
        whole.softmax(0)
        for whole in (upsampled(logits), refiner.refine(logits, rgb, config=refiner.Config(candidates=3)))
    )
    assert torch.allclose(after[others], before[others], atol=1e-5)
    assert not torch.allclose(after[chosen], before[chosen], atol=1e-2)


def test_pixels_that_are_no_rgb_are_an_error(refiner):
    with pytest.raises(ImageError, match="uint8 RGB"):
        refiner.refine(random_logits(3), np.zeros((4, 4), np.uint8))


def test_more_than_memory_holds_is_an_error(refiner, rgb, monkeypatch):
    monkeypatch.setattr(_candidates, "MAX_LOGITS", 1000)
    with pytest.raises(SettingError, match="3 classes at 40 x 48 pixels"):
        refiner.refine(random_logits(3), rgb)


# candidates


def test_candidates_are_the_classes_that_win_most_then_those_that_come_closest():
    seldom_but_surely, often, never, nearly = [9.0, 0, 0, 0], [0.0, 1, 1, 1], [0.0, 0, 0, 0], [0.0, 0.9, 0.9, 0.9]
    logits = torch.tensor([seldom_but_surely, often, never, nearly])[:, None]
    assert candidates(logits, 1).tolist() == [1]
    assert candidates(logits, 2).tolist() == [0, 1]
    assert candidates(logits, 3).tolist() == [0, 1, 3]
    assert candidates(logits, 9).tolist() == [0, 1, 2, 3]


def test_there_is_always_a_candidate():
    assert len(candidates(torch.zeros(5000, 2, 2), 32)) == 32
    assert candidates(torch.tensor([[[0.0]], [[50.0]]]), 32).tolist() == [1]


# through the predictor

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "grey": (0.5, 0.5, 0.5)}
PATCH = 16


@dataclass(frozen=True)
class Nothing:
    pass


class Coarse(nn.Module, Segmenter[DenseEmbedding, TextClassifier]):
    """Sees the mean colour of 16 x 16 patches, with noise; class logits fall with the distance to a class's colour."""

    patch, traits, config = PATCH, Traits(), Nothing()

    def embed_text(self, vocabulary, prompts, *, cache=None):
        weight = torch.tensor([COLOURS[word] for word in vocabulary.queries], dtype=torch.float32)
        return TextClassifier.of(vocabulary, weight, 4.0)

    def embed_image(self, images):
        mean = F.avg_pool2d(images / 255, PATCH)
        return DenseEmbedding(mean + 0.25 * torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)))

    def classify(self, embedding, classifier):
        distance = (embedding.features.float()[:, None] - classifier.weight[None, :, :, None, None]).square().sum(2)
        return DenseLogits(classifier.pool(-classifier.scale * distance), classifier.background)


class Masks(Coarse):
    def classify(self, embedding, classifier):
        logits = super().classify(embedding, classifier).logits
        return MaskScores(2 * (logits - logits.mean(1, keepdim=True)), torch.eye(logits.shape[1])[None], False)


def picture() -> tuple[np.ndarray, np.ndarray]:
    """A red disc and a blue one on green, a little textured, and its labels."""
    rows, columns = np.indices((128, 144))
    labels = np.ones((128, 144), np.uint8)
    labels[(rows - 50) ** 2 + (columns - 45) ** 2 < 33**2] = 0
    labels[(rows - 80) ** 2 + (columns - 105) ** 2 < 29**2] = 2
    rgb = np.array([COLOURS[word] for word in ("red", "green", "blue")])[labels] * 220
    noise = np.random.default_rng(0).integers(0, 12, rgb.shape)
    return (rgb + noise).astype(np.uint8), labels


def predictor(segmenter: nn.Module, refine: str | None, **changes: Any) -> Predictor:
    plain = Inference(multiple=PATCH, prompts="single", refine=refine, **changes)
    return Predictor(segmenter, plain, name="coarse", device="cpu", dtype="fp32")


@pytest.mark.parametrize(
    ("segmenter", "changes"), [(Coarse, {}), (Coarse, {"window": 96, "blend": "logits"}), (Masks, {})]
)
def test_every_kind_of_result_gets_sharper(name, segmenter, changes):
    rgb, truth = picture()
    words = ["red", "green", "blue"]
    plain, refined = (
        (predictor(segmenter(), refine, **changes).segment(rgb, words).labels == truth).mean()
        for refine in (None, name)
    )
    assert plain < 0.95
    assert 1 - refined < 0.6 * (1 - plain)


def test_the_background_stays_unlabelled(name):
    rgb, truth = picture()
    words = Vocabulary(["red", "blue"], background="green, grey")
    labels = predictor(Coarse(), name).segment(rgb, words).labels
    expected = np.choose(truth, [0, 255, 1])
    assert (labels == expected).mean() > 0.97


def test_logits_that_are_nan_are_reported(name, monkeypatch):
    rgb, _ = picture()
    broken = torch.full((1, 3, 8, 9), torch.nan)
    monkeypatch.setattr(Coarse, "classify", lambda self, embedding, classifier: DenseLogits(broken))
    with pytest.raises(LexisegError, match="NaN"):
        predictor(Coarse(), name).segment(rgb, ["red", "green", "blue"])


def test_a_picture_larger_than_what_the_model_sees_keeps_its_size(name):
    rgb, _ = picture()
    result = predictor(Coarse(), name, short_side=64).segment(rgb, ["red", "green", "blue"])
    assert result.labels.shape == (128, 144)
    assert result.scores is not None
    assert result.scores.max() <= 1
