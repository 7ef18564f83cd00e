from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.data.mini.canvas import Layouts, compose, crop_around, fit

SIZE = 48
LAYOUTS = Layouts(SIZE)


def layouts(count, irregular, number=60):
    return [LAYOUTS.draw(count, np.random.default_rng(seed), irregular=irregular) for seed in range(number)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("irregular", [False, True])
def test_cells_cover_the_canvas_and_none_is_small(count, irregular):
    for layout in layouts(count, irregular):
        areas = np.bincount(layout.cells.ravel()) / SIZE**2
        assert len(areas) == len(layout.boxes) == count
        assert areas.min() >= 0.12 or count == 1
        for cell, (top, left, bottom, right) in enumerate(layout.boxes):
            inside = np.zeros((SIZE, SIZE), bool)
            inside[top:bottom, left:right] = True
            mask = layout.cells == cell
            assert (inside | ~mask).all()
            for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]):
                assert edge.any()  # the box is as small as it can be


def test_rectangular_cells_fill_their_boxes_and_irregular_ones_do_not():
    def filled(irregular):
        return np.mean(
            [
                np.mean(
                    [
                        (layout.cells[top:bottom, left:right] == cell).mean()
                        for cell, (top, left, bottom, right) in enumerate(layout.boxes)
                    ]
                )
                for layout in layouts(3, irregular)
            ]
        )

    assert filled(False) == 1
    assert filled(True) < 0.9


def test_layouts_differ_and_repeat_with_their_seed():
    drawn = {layout.cells.tobytes() for layout in layouts(3, True)}
    assert len(drawn) > 50
    again = Layouts(SIZE).draw(3, np.random.default_rng(7), irregular=True)
    assert np.array_equal(again.cells, LAYOUTS.draw(3, np.random.default_rng(7), irregular=True).cells)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_each_piece_shows_in_its_own_cell_only(channels):
    for layout in layouts(4, True, 10):
        pieces = [
            np.full((bottom - top, right - left, *channels), cell + 10, np.uint8)
            for cell, (top, left, bottom, right) in enumerate(layout.boxes)
        ]
        canvas = compose(layout, pieces)
        assert canvas.shape == (SIZE, SIZE, *channels)
        flat = canvas if not channels else canvas[..., 0]
        assert np.array_equal(flat, layout.cells + 10)


@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.tuples(st.integers(1, 128), st.integers(1, 128)),
    st.integers(0, 2**31),
)
def test_boxes_lie_in_the_picture_and_hold_their_focus(size, shape, seed):
    random = np.random.default_rng(seed)
    focus = random.uniform(0, size[0] - 1), random.uniform(0, size[1] - 1)
    top, left, bottom, right = crop_around(size, shape, random, side=(0.3, 1.0), focus=focus)
    assert 0 <= top < bottom <= size[0]
    assert 0 <= left < right <= size[1]
    assert top <= int(focus[0]) < bottom
    assert left <= int(focus[1]) < right


def test_boxes_have_nearly_the_proportions_asked_for():
    for seed in range(100):
        top, left, bottom, right = crop_around((400, 300), (60, 90), np.random.default_rng(seed), side=(0.7, 1.0))
        aspect = (bottom - top) / (right - left)
        assert 60 / 90 / 1.25 < aspect < 60 / 90 * 1.25
        assert right - left >= 0.65 * 300 / 1.25


def test_pictures_and_labels_are_fitted_alike():
    labels = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 4, (5, 5), np.uint8), 12, 0), 12, 1)
    picture = np.repeat(labels[..., None] * 60, 3, axis=2)
    for mirror in (False, True):
        fitted = fit(picture, (6, 0, 54, 60), (96, 120), mirror=mirror)[..., 0]
        nearest = fit(labels, (6, 0, 54, 60), (96, 120), mirror=mirror) * 60
        assert (np.abs(fitted.astype(int) - nearest) < 30).mean() > 0.9
    assert np.array_equal(fit(picture, (0, 0, 60, 60), (60, 60), mirror=False), picture)
