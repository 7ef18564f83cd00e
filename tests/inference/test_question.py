"""Questions beside labels: the posterior of one class, refiners and prompts in place of the model's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from inference.fakes import PATCH, WORDS, flag, predictor
from lexiseg import Prompts, SettingError, UnknownName


def posteriors(size: tuple[int, int]) -> np.ndarray:
    """The softmax of the model's logits, brought to `size` by torch [C, H, W]."""
    model = predictor()
    embedding = model.segmenter.embed_image(torch.from_numpy(flag()).permute(2, 0, 1)[None])
    logits = model.segmenter.classify(embedding, model.embed_text(WORDS)).logits
    return F.interpolate(logits, size, mode="bilinear").softmax(1)[0].numpy()


@pytest.mark.parametrize(("long_side", "size"), [(None, (48, 64)), (1000, (48, 64)), (32, (24, 32)), (1, (1, 1))])
@torch.no_grad()
def test_the_posterior_is_the_softmax_at_the_size_that_is_asked_for(
    long_side: int | None, size: tuple[int, int]
) -> None:
    model = predictor()
    embedded, question = model.embed(flag()), model.ask(WORDS)
    for place, word in enumerate(WORDS):
        found = question.posterior(embedded, word, long_side=long_side)
        np.testing.assert_allclose(found.astype(float), posteriors(size)[place], atol=1e-3)


def test_the_posterior_is_0_where_there_are_no_pixels() -> None:
    rgba = np.dstack([flag(), np.full((48, 64), 255, np.uint8)])
    rgba[:, :32, 3] = 0
    model = predictor()
    found = model.ask(WORDS).posterior(model.embed(rgba), "red", long_side=16)
    assert found.shape == (12, 16)
    assert (found[:, :8] == 0).all()


def test_the_posterior_of_a_class_that_was_not_asked_about_is_an_error() -> None:
    model = predictor()
    with pytest.raises(UnknownName, match="no class is called 'black'"):
        model.ask(WORDS).posterior(model.embed(flag()), "black")


def test_what_embed_many_returns_is_what_embed_returns_in_order() -> None:
    pictures = [flag(), flag(24, 32), flag()[:, ::-1].copy(), flag(96, 32)]
    model = predictor()
    many = model.embed_many([model.read(picture) for picture in pictures])
    assert sorted(shape[0] for shape in model.segmenter.batches) == [1, 1, 2]
    for picture, seen in zip(pictures, many, strict=True):
        alone = model.embed(picture)
        np.testing.assert_array_equal(model.classify(seen, WORDS).labels, model.classify(alone, WORDS).labels)
        for _, embedding in seen.views:  # holds its own numbers, not those of its neighbours too
            features = embedding.features
            assert features.untyped_storage().nbytes() == features.numel() * features.itemsize
    assert many[0].views[0][1].features.shape[-2:] == (48 // PATCH, 64 // PATCH)


@pytest.mark.parametrize("name", ["pamr", "crf"])
def test_a_refiner_of_a_question_is_that_of_the_settings(name: str) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8) // 3 + flag() // 2
    plain, own = predictor(), predictor(refine=name)
    (seen,) = plain.embed_many([plain.read(noisy)])
    answer = plain.ask(WORDS, refine=name).answer(seen)
    np.testing.assert_array_equal(answer.labels, own.segment(noisy, WORDS).labels)
    assert answer.settings["inference"]["refine"] == name
    (seen,) = own.embed_many([own.read(noisy)])
    answer = own.ask(WORDS, refine="none").answer(seen)
    np.testing.assert_array_equal(answer.labels, plain.segment(noisy, WORDS).labels)
    assert answer.settings["inference"]["refine"] is None


def test_an_unknown_refiner_is_an_error() -> None:
    with pytest.raises(UnknownName, match="refiner"):
        predictor().ask(WORDS, refine="os")


def test_prompts_of_a_question_take_the_place_of_the_models_own() -> None:
    model = predictor()
    prompts = Prompts.open("vild14")
    model.segmenter.embed_text = lambda vocabulary, prompts, cache=None: prompts  # type: ignore[assignment]
    assert model.embed_text("red", prompts=prompts) == prompts
    assert model.embed_text("red") == model.prompts != prompts
    answer = predictor().ask(WORDS, prompts=prompts).answer(predictor().embed(flag()))
    assert answer.settings["prompts"] == prompts.digest[:16]


def test_a_question_about_what_another_model_has_seen_is_an_error() -> None:
    other = predictor()
    other.fingerprint = "other"
    with pytest.raises(SettingError, match="embed it with"):
        predictor().ask(WORDS).posterior(other.embed(flag()), "red")
