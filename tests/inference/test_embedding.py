"""Windows, batches and precision: what passes the network together, and in what numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexiseg.errors import LexisegError
from lexiseg.inference import embedding
from lexiseg.inference.predictor import load
from lexiseg.segmenter import DenseEmbedding

from .fakes import WORDS, Colours, agreement, flag, predictor, truth


def test_windows_of_an_image_pass_the_network_together():
    segmenter = Colours()
    predictor(segmenter, window=16, stride=16).segment(flag(64, 64), WORDS)
    assert segmenter.batches == [(16, 3, 16, 16)]


def test_at_most_so_many_pixels_pass_the_network_together(monkeypatch):
    monkeypatch.setattr(embedding, "FORWARD", 5 * 16 * 16)
    segmenter = Colours()
    predictor(segmenter, window=16, stride=16).segment(flag(64, 64), WORDS)
    assert [shape[0] for shape in segmenter.batches] == [5, 5, 5, 1]


def test_a_picture_too_large_to_be_seen_whole_gets_windows(monkeypatch):
    monkeypatch.setattr(embedding, "MAX_WHOLE", 40 * 40)
    monkeypatch.setattr(embedding, "TILE", 32)
    monkeypatch.setattr(embedding, "TILE_STRIDE", 24)
    segmenter = Colours()
    tiled = predictor(segmenter).segment(flag(80, 60), WORDS)
    assert {shape[2:] for shape in segmenter.batches} == {(32, 32)}
    monkeypatch.undo()
    assert np.array_equal(tiled.labels, predictor().segment(flag(80, 60), WORDS).labels)


def test_images_of_one_size_pass_the_network_together():
    segmenter = Colours()
    pictures = [flag(48, 64), flag(32, 32), flag(48, 64)]
    list(predictor(segmenter).segment_many(pictures, WORDS, batch_size=3))
    assert sorted(shape[0] for shape in segmenter.batches) == [1, 2]


class Overflowing(Colours):
    """Numbers that only fp32 holds."""

    tried: tuple = ()

    def embed_image(self, images):
        assert images.dtype == torch.uint8
        self.tried = (*self.tried, self.gain.dtype)
        found = super().embed_image(images)
        return DenseEmbedding(found.features if self.gain.dtype == torch.float32 else found.features / 0)


def test_auto_gives_up_a_precision_that_overflows_and_remembers(monkeypatch):
    monkeypatch.setattr("lexiseg.inference.devices.dtype", lambda given, on=None: torch.bfloat16)
    segmenter = Overflowing()
    model = predictor(segmenter, dtype="auto")
    result = model.segment(flag(), WORDS)
    assert agreement(result.labels, truth()) > 0.93
    assert segmenter.tried == (torch.bfloat16, torch.float32)
    assert result.settings["dtype"] == "float32"
    model.segment(flag(), WORDS)
    assert segmenter.tried[-1] == torch.float32
    assert len(segmenter.tried) == 3
    assert all(weight.dtype == torch.float32 for weight in segmenter.parameters())


def test_a_named_precision_that_overflows_is_an_error():
    with pytest.raises(LexisegError, match="overflows bfloat16; use dtype='auto'"):
        predictor(Overflowing(), dtype="bf16").segment(flag(), WORDS)


def test_numbers_that_no_precision_holds_are_an_error():
    segmenter = Colours()
    segmenter.gain.data[:] = float("nan")
    with pytest.raises(LexisegError, match="damaged"):
        predictor(segmenter, dtype="auto").segment(flag(), WORDS)


@pytest.mark.parametrize("changes", [{}, {"blend": "logits"}])
def test_sizes_that_are_no_multiple_of_a_resnets_cells_are_labelled(changes):
    model = load("maskclip/tiny-rn", device="cpu", dtype="fp32", short_side=70, window=64, multiple=1, **changes)
    result = model.segment(flag(70, 115), "cat, dog")
    assert result.labels.shape == (70, 115)
    assert np.isfinite(result.scores).all()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_changes_few_labels_and_no_scalar(dtype):
    segmenter = Colours()
    half = predictor(segmenter, dtype=dtype).segment(flag(), WORDS)
    assert segmenter.gain.dtype == half_dtype(dtype)
    assert segmenter.scalar.dtype == torch.float32
    assert agreement(half.labels, predictor().segment(flag(), WORDS).labels) > 0.99


def half_dtype(name: str) -> torch.dtype:
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[name]
