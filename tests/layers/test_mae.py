"""Masking, pixels of patches and positions against loops (docs/papers/segclip.md §3.5)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexiseg.errors import SettingError
from lexiseg.layers.mae import MaeDecoder, hide, patchify, positions


@pytest.mark.parametrize(
    ("length", "ratio", "count"),
    [(196, 0.75, 48), (784, 0.75, 195), (16, 0.75, 3), (196, 0.5, 97), (1, 0.75, 1), (2, 0.9, 1)],
)
def test_the_class_token_counts_among_those_that_are_kept(length: int, ratio: float, count: int) -> None:
    assert hide(torch.rand(2, length), ratio).count == count


def test_the_patches_with_the_smallest_noise_are_kept_in_its_order() -> None:
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
    kept = hide(noise, 0.75)
    tokens = torch.arange(3 * 16 * 2.0).view(3, 16, 2)
    found, hidden = kept.of(tokens), kept.hidden()
    for place in range(3):
        ranked = sorted(range(16), key=lambda at: float(noise[place, at]))
        assert torch.equal(found[place], tokens[place, ranked[:3]])
        assert hidden[place].nonzero()[:, 0].tolist() == sorted(ranked[3:])


def test_tokens_are_put_back_where_they_were() -> None:
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(0))
    kept = hide(noise, 0.75)
    tokens = torch.randn(3, 16, 4)
    shuffled = torch.stack([tokens[place, kept.order[place]] for place in range(3)])
    assert torch.equal(kept.back(shuffled), tokens)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 10)])
def test_pixels_come_by_row_column_and_channel(height: int, width: int) -> None:
    images = torch.randn(2, 3, height, width)
    padded = np.zeros((2, 3, 8, 12), np.float32)
    padded[..., :height, :width] = images.numpy()
    found = patchify(images, 4)
    assert found.shape == (2, 6, 48)
    for image in range(2):
        for place in range(6):
            top, left = 4 * (place // 3), 4 * (place % 3)
            wanted = [
                padded[image, channel, top + row, left + column]
                for row in range(4)
                for column in range(4)
                for channel in range(3)
            ]
            assert found[image, place].tolist() == wanted


def test_positions_are_waves_of_the_column_and_then_of_the_row() -> None:
    found = positions((3, 5), 384)
    assert found.shape == (15, 384)
    rates = 10_000 ** (-np.arange(96) / 96)
    for place in range(15):
        row, column = divmod(place, 5)
        wanted = [wave(at * rates) for at in (column, row) for wave in (np.sin, np.cos)]
        np.testing.assert_allclose(found[place], np.concatenate(wanted), atol=1e-6)


def test_a_width_that_does_not_divide_is_told() -> None:
    for width, heads in ((20, 8), (6, 3)):
        with pytest.raises(SettingError, match=f"decoder_width is {width} and decoder_heads {heads}"):
            MaeDecoder(16, width, heads=heads, layers=1, pixels=48)
