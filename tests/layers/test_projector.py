"""The projector against its formula in float64, in training and after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lexiseg.errors import SettingError
from lexiseg.layers.projector import Projector


def reference(projector: Projector, rows: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Linear, batch norm with these statistics, ReLU, linear."""
    norm = projector[1]
    state = {name: each.detach().double().numpy() for name, each in projector.state_dict().items() if each.ndim}
    hidden = rows @ state["0.weight"].T + state["0.bias"]
    hidden = (hidden - mean) / np.sqrt(variance + norm.eps) * state["1.weight"] + state["1.bias"]  # type: ignore[union-attr]
    return np.maximum(hidden, 0) @ state["3.weight"].T + state["3.bias"]


@pytest.fixture
def projector() -> Projector:
    torch.manual_seed(0)
    made = Projector(5, 7, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
        made[1].running_mean.normal_()  # type: ignore[union-attr,operator]
        made[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator]
    return made


def test_it_is_the_formula(projector: Projector) -> None:
    rows = torch.randn(6, 5)
    hidden = rows.double().numpy() @ projector[0].weight.detach().double().numpy().T  # type: ignore[union-attr,operator]
    hidden += projector[0].bias.detach().double().numpy()  # type: ignore[union-attr,operator]
    running = (projector[1].running_mean.double().numpy().copy(), projector[1].running_var.double().numpy().copy())  # type: ignore[union-attr,operator]
    found = projector.eval()(rows).detach().numpy()
    assert np.allclose(found, reference(projector, rows.double().numpy(), *running), atol=1e-4)
    trained = projector.train()(rows).detach().numpy()
    assert np.allclose(trained, reference(projector, rows.double().numpy(), hidden.mean(0), hidden.var(0)), atol=1e-4)


def test_rows_of_any_shape_are_projected_alike_and_apart_after_training(projector: Projector) -> None:
    rows = torch.randn(2, 4, 5)
    found = projector.eval()(rows)
    assert found.shape == (2, 4, 3)
    assert torch.allclose(found[1, 2], projector(rows[1, 2, None])[0], atol=1e-6)
    assert projector.dimension == 3


def test_a_batch_of_one_cannot_be_normalised() -> None:
    with pytest.raises(SettingError, match="projection_norm=layer"):
        Projector(5, 7, 3).train()(torch.randn(1, 5))
    assert Projector(5, 7, 3, "layer").train()(torch.randn(1, 5)).shape == (1, 3)
    assert Projector(5, 7, 3, "none").train()(torch.randn(1, 5)).shape == (1, 3)
