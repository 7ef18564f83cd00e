"""A picture that common words fit better than the user's gets a note, at no second look; nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import Image

import lexiseg
from lexiseg.encoders.familiar import Familiar
from lexiseg.inference import common_words
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import Traits

from . import fakes
from .fakes import PLAIN, Colours, Masks, Uncut

SKY, ROAD = (0, 128, 255), (128, 128, 128)
FAMILIAR = Familiar(frozenset({"red", "green", "sky", "road"}))


@pytest.fixture(autouse=True)
def _colours_of_common_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for word, colour in (("sky", SKY), ("road", ROAD)):
        monkeypatch.setitem(fakes.COLOURS, word, tuple(level / 255 for level in colour))


def picture(red_rows: int, size: tuple[int, int] = (100, 80)) -> np.ndarray:
    """Red above, then the sky, the last ten rows road."""
    rgb = np.full((*size, 3), SKY, np.uint8)
    rgb[-10:] = ROAD
    rgb[:red_rows] = (255, 0, 0)
    return rgb


def model(segmenter=None, familiar: Familiar | None = FAMILIAR, **changes) -> Predictor:
    inference = replace(PLAIN, **changes)
    return Predictor(segmenter or Colours(), inference, name="colours", device="cpu", dtype="fp32", familiar=familiar)


def warned(result: lexiseg.Segmentation) -> bool:
    return any("fit nearly all of it better" in warning for warning in result.warnings)


@pytest.mark.parametrize("red_rows", [0, 4, 8, 20, 48])
@pytest.mark.parametrize("segmenter", [Colours, Uncut])
def test_the_fraction_is_that_of_the_pixels_that_show_common_words(segmenter, red_rows):
    asking = model(segmenter())
    embedded = asking.embed(picture(red_rows))
    share = common_words.fitting_better(
        embedded, lexiseg.Vocabulary("red, green"), asking.segmenter, asking.embed_text, FAMILIAR
    )
    assert share == pytest.approx(1 - red_rows / 100, abs=0.03)  # the thumbnail has 48 rows
    assert warned(asking.classify(embedded, "red, green")) == (red_rows < 10)


def test_a_common_word_that_is_asked_for_is_no_rival():
    assert not warned(model().segment(picture(0), "red, sky"))
    assert not warned(model().segment(picture(0), "red, green|sky"))


def test_a_word_that_the_model_does_not_know_is_no_rival():
    assert not warned(model(familiar=Familiar(frozenset({"red", "green"}))).segment(picture(0), "red, green"))
    assert not warned(model(familiar=Familiar(frozenset({"red"}))).segment(picture(0), "red, green"))
    assert not warned(model(familiar=None).segment(picture(0), "red, green"))


def test_nothing_is_said_where_the_rest_is_asked_for_or_one_class_takes_all():
    assert not warned(model().segment(picture(0), "red, green", background="black"))
    assert not warned(model().segment(picture(0), "red, green", threshold=0.1))
    assert not warned(model(background_threshold=0.1).segment(picture(0), "red, green"))
    assert not warned(model().segment(picture(0), "red"))
    own = Colours()
    own.traits = Traits(background="own")
    assert not warned(model(own).segment(picture(0), "red, green"))
    assert warned(model(background_threshold=0.1).segment(picture(0), "red, green", threshold=0))


def test_labels_stay_and_the_picture_is_embedded_once():
    asking, plain = model(), model(familiar=None)
    result = asking.segment(picture(20), "red, green, yellow")
    np.testing.assert_array_equal(result.labels, plain.segment(picture(20), "red, green, yellow").labels)
    assert len(asking.segmenter.batches) == len(plain.segmenter.batches) == 1
    asking.segment(picture(0), "red, yellow")
    lists = [vocabulary.names for vocabulary in asking.segmenter.texts]
    assert lists.count(("sky", "road")) == 1


@pytest.mark.parametrize("window", [None, 32])
def test_batches_and_windows_that_are_joined_say_the_same(window):
    asking = model(window=window)
    pictures = [picture(0), picture(50), picture(0)]
    results = list(asking.segment_many(pictures, "red, green", batch_size=2))
    assert [warned(result) for result in results] == [True, False, True]


def test_windows_that_are_classified_one_by_one_are_not_asked_again():
    assert not warned(model(window=32, blend="logits").segment(picture(0), "red, green"))


def test_a_method_of_masks_is_asked_too():
    assert warned(model(Masks()).segment(picture(0), "red, green"))
    assert not warned(model(Masks()).segment(picture(60), "red, green"))


def test_pixels_that_are_not_there_do_not_count():
    rgb = picture(0)
    rgb[:60] = (255, 0, 0)
    alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
    alpha[:60] = 0
    seen = Image.fromarray(np.concatenate([rgb, alpha], axis=2))
    assert warned(model().segment(seen, "red, green"))
    alpha[:] = 0
    assert not warned(model().segment(Image.fromarray(np.concatenate([rgb, alpha], axis=2)), "red, green"))


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [("astronaut", "person, wall", "sheep, car"), ("rocket", "sky, tower", "banana, dog")],
)
def test_the_embedded_model_tells_absent_words_from_those_of_a_photograph(name, present, absent):
    mini, photograph = lexiseg.load("maskclip/mini"), getattr(skimage.data, name)()
    seen = mini.embed(photograph)
    assert not warned(mini.classify(seen, present))
    (said,) = [warning for warning in mini.classify(seen, absent).warnings if "fit nearly all" in warning]
    assert said.startswith("the array: common words (sky, wall, tree ...)")
    assert "--background auto" in said
