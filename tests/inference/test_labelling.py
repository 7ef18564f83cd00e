"""From embeddings to labels: bands, backgrounds and refiners."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch

from lexiseg import catalog
from lexiseg.errors import SettingError
from lexiseg.inference import labelling
from lexiseg.segmenter import Traits

from .fakes import WORDS, Colours, Masks, OwnBackground, flag, predictor


def test_classifying_in_bands_changes_nothing(monkeypatch):
    whole = predictor().segment(flag(), WORDS)
    monkeypatch.setattr(labelling, "BAND", 3 * 16 * len(WORDS))
    segmenter = Colours()
    banded = predictor(segmenter).segment(flag(), WORDS)
    assert max(segmenter.bands) == 4 < 12
    assert np.array_equal(whole.labels, banded.labels)
    segmenter.traits, segmenter.bands = Traits(whole_image=True), []
    predictor(segmenter).segment(flag(), WORDS)
    assert segmenter.bands == [12]


def test_masks_are_never_cut_into_bands(monkeypatch):
    whole = predictor(Masks()).segment(flag(), WORDS)
    monkeypatch.setattr(labelling, "BAND", 3 * 16 * len(WORDS))
    assert np.array_equal(predictor(Masks()).segment(flag(), WORDS).labels, whole.labels)


def test_a_method_with_a_rule_of_its_own_has_no_other():
    image = flag()
    image[:8] = 0
    model = predictor(OwnBackground(), background_threshold=0.999)
    result = model.segment(image, WORDS)
    assert (result.labels[:7] == 255).all()
    assert (result.labels[10:] != 255).all()
    with pytest.raises(SettingError, match="rule of its own"):
        model.segment(image, WORDS, threshold=0.5)


@pytest.fixture
def shout(monkeypatch):
    """A refiner called "shout", which turns every pixel to the class of the picture's first pixel's colour."""
    module = types.ModuleType("shout")
    seen = []

    def refine(logits, rgb):
        seen.append((tuple(logits.shape), rgb.shape, rgb.dtype))
        everywhere = torch.full_like(logits, -5.0)
        everywhere[int(rgb[0, 0].argmax())] = 5.0
        return everywhere

    module.refine = refine
    monkeypatch.setattr(catalog, "get", lambda shelf, name: {("refine", "shout"): module}[shelf, name])
    return seen


@pytest.mark.parametrize("segmenter", [Colours, Masks])
@pytest.mark.parametrize("changes", [{}, {"window": 16}, {"window": 16, "blend": "logits"}])
def test_a_refiner_sees_all_logits_and_the_pixels_behind_them(shout, segmenter, changes):
    model = predictor(segmenter(), refine="shout", short_side=24, **changes)
    for result in (model.segment(flag(), WORDS), model.classify(model.embed(flag()), WORDS)):
        assert (result.labels == 0).all()
    pixels = (len(WORDS), 24, 32)
    grid = (len(WORDS), 6, 8)
    expected = pixels if segmenter is Masks or changes.get("blend") == "logits" else grid
    assert set(shout) == {(expected, (24, 32, 3), np.dtype(np.uint8))}


def test_logits_too_large_to_refine_are_an_error(shout, monkeypatch):
    monkeypatch.setattr(labelling, "MAX_REFINED", 10)
    with pytest.raises(SettingError, match="refiner would need"):
        predictor(refine="shout").segment(flag(), WORDS)
