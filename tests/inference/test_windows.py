"""Windows cover the picture as mmseg's do, and what they saw is put together without seams."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lexiseg.inference import windows
from lexiseg.inference.windows import Box, boxes
from lexiseg.segmenter import DenseEmbedding, Embedding

from .fakes import Whole

SIDES = st.integers(1, 300)


@dataclass(frozen=True, eq=False)
class Rich(DenseEmbedding):
    grid_fields: ClassVar[tuple[str, ...]] = ("features", "keys")
    per_image: ClassVar[tuple[str, ...]] = ("image", "valid")

    keys: Tensor
    image: Tensor
    valid: Tensor
    centres: Tensor
    note: str


def rich(features: Tensor, keys: Tensor, *, note: str = "x") -> Rich:
    """With a vector per image, flags, and centres that all images share."""
    images = len(features)
    vectors = torch.randn(images, 2, generator=torch.Generator().manual_seed(images))
    return Rich(features, keys, vectors, torch.ones(images, 5, dtype=torch.bool), torch.randn(images, 3), note)


def mmseg_boxes(height: int, width: int, crop: int, stride: int) -> list[Box]:
    """docs/papers/maskclip.md §2.6, by hand."""
    count_y = max(height - crop + stride - 1, 0) // stride + 1
    count_x = max(width - crop + stride - 1, 0) // stride + 1
    found = []
    for row in range(count_y):
        for column in range(count_x):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            found.append(Box(max(bottom - crop, 0), max(right - crop, 0), bottom, right))
    return found


@settings(deadline=None, max_examples=50)
@given(SIDES, SIDES, st.integers(5, 120), st.integers(5, 120))
def test_windows_are_mmsegs(height, width, window, stride):
    stride = min(stride, window)
    assert boxes((height, width), window, stride) == mmseg_boxes(height, width, window, stride)


def test_the_papers_example_has_two_windows():
    # docs/papers/simseg.md §6.2: 448 x 597, window 448, stride 224
    assert boxes((448, 597), 448, 224) == [Box(0, 0, 448, 448), Box(0, 149, 448, 597)]


@settings(deadline=None, max_examples=50)
@given(SIDES, SIDES, st.integers(9, 120), st.sampled_from([1, 8, 14, 16]))
def test_windows_cover_every_pixel_and_lie_on_the_lattice(height, width, window, multiple):
    seen = torch.zeros(height, width)
    for box in boxes((height, width), window, multiple=multiple):
        assert box.top % multiple == box.left % multiple == 0
        assert max(box.size) <= max(
            window, multiple, height if height <= window else 0, width if width <= window else 0
        )
        seen[box.top : box.bottom, box.left : box.right] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize(("size", "window"), [((30, 40), None), ((30, 40), 40), ((1, 1), 8)])
def test_a_picture_that_fits_has_one_window(size, window):
    assert boxes(size, window) == [Box(0, 0, *size)]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([16, 40, 64]), st.sampled_from([8, 24, 40]))
def test_stitching_crops_of_one_grid_gives_it_back(height, width, window, stride):
    patch = 8
    grid = (math.ceil(height / patch), math.ceil(width / patch))
    whole = torch.randn(1, 3, *grid)

    def view(box: Box) -> DenseEmbedding:
        top, left = box.top // patch, box.left // patch
        bottom, right = math.ceil(box.bottom / patch), math.ceil(box.right / patch)
        return DenseEmbedding(whole[..., top:bottom, left:right])

    plan = boxes((height, width), window, min(stride, window), multiple=patch)
    assert all(windows.fits(box, view(box), patch) for box in plan)
    stitched = windows.stitch(((box, view(box)) for box in plan), (height, width), patch)
    assert torch.allclose(stitched.features, whole, atol=1e-5)


def test_overlaps_favour_the_window_whose_middle_is_nearer():
    plan = boxes((8, 96), 64, 32, multiple=8)
    views = [(box, DenseEmbedding(torch.full((1, 1, 1, 8), float(place)))) for place, box in enumerate(plan)]
    blended = windows.stitch(views, (8, 96), 8).features[0, 0, 0]
    assert blended[0] == 0
    assert blended[-1] == 1
    assert (blended.diff() >= 0).all()
    assert 0 < blended[4] < 0.5 < blended[7] < 1


def test_a_tower_that_drops_the_rest_of_its_last_cell_leaves_no_gap():
    """A ResNet gives floor(side / 32) cells; the last window of 36 pixels has one where two are needed."""
    plan = boxes((64, 100), 64, 32, multiple=32)
    views = [(box, DenseEmbedding(torch.ones(1, 3, box.size[0] // 32, box.size[1] // 32))) for box in plan]
    assert [view.features.shape[-1] for _, view in views] == [2, 2, 1]
    stitched = windows.stitch(views, (64, 100), 32)
    assert stitched.features.shape == (1, 3, 2, 4)
    assert torch.allclose(stitched.features, torch.ones(1, 3, 2, 4))


def test_other_fields_are_averaged_or_kept_and_types_stay():
    def view(value: float) -> Rich:
        grid = torch.full((1, 2, 1, 1), value, dtype=torch.bfloat16)
        made = rich(grid, grid[:, :0], note="first" if value == 1 else "second")
        return dataclasses.replace(made, image=torch.tensor([[value, 1.0]]))

    plan = boxes((8, 16), 8, 8, multiple=8)
    stitched = windows.stitch(zip(plan, [view(1.0), view(3.0)], strict=True), (8, 16), 8)
    assert stitched.features.dtype == torch.bfloat16
    assert stitched.features[0, 0].tolist() == [[1, 3]]
    assert stitched.keys.shape == (1, 0, 1, 2)
    assert stitched.image.tolist() == [[2, 1]]
    assert stitched.valid.all()
    assert stitched.note == "first"


def test_windows_of_another_lattice_do_not_fit():
    assert not windows.fits(Box(0, 0, 32, 32), DenseEmbedding(torch.zeros(1, 2, 3, 4)), 8)
    assert not windows.fits(Box(0, 0, 32, 32), Embedding(), 8)


def test_rows_cut_every_grid_field():
    embedding = rich(torch.randn(1, 2, 5, 3), torch.randn(1, 4, 5, 3))
    cut = windows.rows(embedding, 1, 4)
    assert torch.equal(cut.features, embedding.features[:, :, 1:4])
    assert torch.equal(cut.keys, embedding.keys[:, :, 1:4])
    assert cut.image is embedding.image


def test_taking_one_image_cuts_what_is_per_image_and_nothing_else():
    """There are as many centres as images."""
    embedding = rich(torch.randn(3, 2, 4, 4), torch.randn(3, 1, 4, 4))
    one = windows.take(embedding, 1)
    for name in ("features", "keys", "image", "valid"):
        assert torch.equal(getattr(one, name), getattr(embedding, name)[1:2])
    assert one.centres is embedding.centres
    assert one.note == "x"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found(wrong):
    sound = DenseEmbedding(torch.zeros(1, 2, 2, 2))
    broken = DenseEmbedding(torch.full((1, 2, 2, 2), wrong))
    assert windows.is_finite(sound)
    assert not windows.is_finite(broken)
    assert windows.is_finite(Whole(torch.zeros(1, 2)))
    assert not windows.is_finite(Whole(torch.tensor([[wrong]])))
