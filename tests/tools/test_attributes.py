"""What the embedded model makes of phrases: the noun counts, colours do not (so nothing here asks for them)."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import lexiseg
from lexiseg.inference.predictor import Predictor
from script_files import load

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("tools/attributes")


@pytest.fixture(scope="module")
def model() -> Predictor:
    return lexiseg.load("maskclip/mini", text_cache=False)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((200, 30, 30), "red"),
        ((190, 20, 60), "red"),
        ((230, 210, 40), "yellow"),
        ((40, 80, 200), "blue"),
        ((240, 240, 235), "white"),
        ((20, 20, 20), "black"),
        ((120, 120, 120), None),
        ((40, 160, 60), None),
    ],
)
def test_colours_have_names_where_they_are_plain(
    script: ModuleType, rgb: tuple[int, int, int], name: str | None
) -> None:
    assert script.colour_of(np.array([rgb] * 5 + [(0, 255, 0)], np.uint8)) == name


def test_phrases_about_a_cat_find_the_cat(script: ModuleType, model: Predictor) -> None:
    seen = model.embed(script.picture("chelsea.png"))
    phrases = model.classify(seen, [f"{colour} cat" for colour in script.COLOURS], background=script.BACKGROUND)
    noun = model.classify(seen, ["cat"], background=script.BACKGROUND)
    assert script.iou(phrases.labels != 255, noun.labels != 255) > 0.9


def test_words_for_the_background_leave_pixels_unlabelled(script: ModuleType, model: Predictor) -> None:
    """The photograph shows a cup on a table: whatever takes the rest of it, the asked words take less."""
    seen = model.embed(script.picture("coffee.png"))
    with_words = model.classify(seen, ["cup", "spoon"], background=script.BACKGROUND).labels
    without = model.classify(seen, ["cup", "spoon"]).labels
    assert (without != 255).all()
    assert 0.1 < (with_words == 255).mean() < 0.95


@pytest.mark.skipif(not DATA.is_dir(), reason="the photographs of shared/data are not here")
def test_on_photographs_with_masks_the_noun_and_the_background_list_count(script: ModuleType, model: Predictor) -> None:
    photographs = script.masked(DATA, 8)
    *_, together, alone = script.colours(model, photographs)
    assert abs(together - alone) < 0.05
    with_words, without = script.background(model, photographs)
    assert with_words > without + 0.1
