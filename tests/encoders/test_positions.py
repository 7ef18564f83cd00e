from __future__ import annotations

import numpy as np
import torch

from lexiseg.encoders.positions import resize_positions


def cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75, the one of torch's bicubic."""
    x, a = abs(distance), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resampling(old: int, new: int) -> np.ndarray:
    """The matrix [new, old] of bicubic resampling, pixel centres aligned at half pixels, edges repeated."""
    matrix = np.zeros((new, old))
    for row in range(new):
        centre = (row + 0.5) * old / new - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[row, np.clip(tap, 0, old - 1)] += cubic(centre - tap)
    return matrix


def test_the_table_s_own_grid_is_left_alone() -> None:
    table = torch.randn(17, 8)
    assert resize_positions(table, (4, 4)) is table


def test_any_other_grid_is_bicubic_resampling() -> None:
    torch.manual_seed(0)
    table = torch.randn(1 + 5 * 5, 6)
    for grid in ((7, 3), (5, 6), (1, 1), (12, 12)):
        rows, columns = resampling(5, grid[0]), resampling(5, grid[1])
        cells = np.einsum("hi,wj,ijd->hwd", rows, columns, table[1:].double().reshape(5, 5, 6).numpy())
        resized = resize_positions(table, grid)
        assert torch.equal(resized[0], table[0])
        np.testing.assert_allclose(resized[1:].numpy(), cells.reshape(-1, 6), atol=1e-5)


def test_a_grid_of_the_same_count_and_another_shape_is_resized() -> None:
    # the released MaskCLIP counts tokens and leaves this one as it is
    table = torch.randn(1 + 4 * 4, 3)
    resized = resize_positions(table, (2, 8))
    assert resized.shape == table.shape
    assert not torch.allclose(resized, table)


def test_half_precision_is_resized_in_single() -> None:
    table = torch.randn(17, 8).half()
    assert torch.equal(resize_positions(table, (6, 5)), resize_positions(table.float(), (6, 5)).half())


def test_gradients_reach_the_table() -> None:
    table = torch.randn(17, 8, requires_grad=True)
    resize_positions(table, (6, 5)).sum().backward()
    assert (table.grad != 0).all()
