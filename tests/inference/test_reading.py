"""Reading ahead of the network, and no more of a photograph than is needed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.photographs import Photograph
from lexiseg.errors import ImageError
from lexiseg.inference.reading import read_ahead

from .fakes import PLAIN, WORDS, agreement, flag, predictor


def test_images_are_read_a_batch_ahead_and_no_further():
    asked = []

    def pictures():
        for place in range(50):
            asked.append(place)
            yield flag(8, 8)

    results = predictor().segment_many(pictures(), WORDS, batch_size=2)
    next(results)
    assert len(asked) <= 6
    results.close()


def test_an_image_not_kept_is_decoded_small(tmp_path, monkeypatch):
    path = tmp_path / "large.jpg"
    Image.fromarray(flag(960, 1280)).save(path, quality=95, subsampling=0)
    decoded = []
    content = Photograph.content
    monkeypatch.setattr(Photograph, "content", lambda self, least=None: decoded.append(least) or content(self, least))
    model = predictor(short_side=48)
    kept = model.segment(path, WORDS)
    light = model.segment(path, WORDS, keep_image=False)
    assert decoded == [None, (96, 128)]
    assert kept.image.shape == (960, 1280, 3)
    assert light.image is None
    assert light.labels.shape == (960, 1280)
    assert agreement(kept.labels, light.labels) > 0.99
    predictor(short_side=48, antialias=False).segment(path, WORDS, keep_image=False)
    assert decoded[-1] is None  # a protocol without antialiasing sees the full image


def test_an_opened_photograph_brings_its_own_limit(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(flag()).save(path)
    assert predictor().segment(Photograph.open(path), WORDS).labels.shape == (48, 64)


@pytest.mark.parametrize(
    ("picture", "note"),
    [
        (np.zeros((8, 8, 3), np.uint8), "every pixel is black, so its labels mean nothing"),
        (np.full((8, 8, 3), (9, 200, 0), np.uint8), "every pixel has the same colour, so its labels mean nothing"),
        (np.arange(192, dtype=np.uint8).reshape(8, 8, 3) // 16, "it is nearly black, so its labels mean little"),
        (np.arange(192, dtype=np.uint16).reshape(8, 8, 3), "its uint16 values go no further than 255"),
    ],
)
def test_a_picture_that_shows_little_gets_a_note_that_names_it(picture, note):
    (said,) = predictor().segment(picture, WORDS).warnings
    assert said.startswith(f"the array: {note}")
    assert predictor().segment(flag(), WORDS).warnings == ()


def test_a_bug_while_reading_escapes_in_its_turn(monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lexiseg.inference.reading.read", broken)
    with pytest.raises(ZeroDivisionError):
        list(read_ahead([flag(), flag()], PLAIN, ahead=1, keep_image=False))


def test_reading_ahead_keeps_the_order_and_the_errors(tmp_path):
    images = [flag(8 + place, 8) if place % 3 else tmp_path / "missing.png" for place in range(10)]
    found = list(read_ahead(iter(images), PLAIN, ahead=3, keep_image=True))
    assert [image for image, _ in found] == images
    for place, (_, picture) in enumerate(found):
        if place % 3:
            assert picture.size == (8 + place, 8)
        else:
            assert isinstance(picture, ImageError)
