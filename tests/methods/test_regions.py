"""The double that groups pixels, through the whole machinery: its grid ends beyond the photograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shelf import doubles
from torch.nn import functional

from inference import plain
from lexiseg.inference.predictor import load

WORDS = ["cat", "grass", "sky", "road", "dog"]


@pytest.mark.parametrize("size", [None, (25, 30)])
@pytest.mark.parametrize(("threshold", "some"), [(0.0, False), (0.9, True)])
@torch.inference_mode()
def test_pixels_are_labelled_by_their_regions(size: tuple[int, int] | None, threshold: float, some: bool) -> None:
    coarse = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(2)) * 255
    photo = functional.interpolate(coarse, (50, 61), mode="bilinear")[0].permute(1, 2, 0).byte().numpy()
    with doubles():
        predictor = load("regions/tiny", device="cpu", dtype="fp32", size=size, threshold=threshold)
    embedded = predictor.embed(photo)
    ((_, view),) = embedded.views
    result: Any = predictor.segmenter.classify(view, predictor.embed_text(WORDS))
    assert result.covers == ((56, 64) if size is None else (32, 32))
    values, posterior = plain.values_of(result, (50, 61), embedded.resized)
    found = predictor.segment(photo, WORDS)
    winner = values.argmax(0)
    expected = torch.where(winner == len(WORDS), 255, winner)
    clear = values.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-5
    assert np.array_equal(found.labels[clear], expected[clear])
    assert np.allclose(found.scores, posterior.amax(0), atol=1e-3)
    assert len(np.unique(found.labels)) > 1
    assert (found.labels == 255).any() == some  # the best region of all is never background
