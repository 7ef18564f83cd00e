"""All generators go on where they were, through JSON."""

from __future__ import annotations

import json
import random

import numpy as np
import torch

from lexiseg.training import random_state
from lexiseg.training.random_state import RandomState


def _draw():
    return (
        random.random(),
        random.gauss(),
        np.random.standard_normal(3).tolist(),  # noqa: NPY002
        torch.randn(3).tolist(),
    )


def test_a_state_continues_to_the_bit_after_json():
    random_state.seed(3, rank=0)
    _draw()
    random.gauss()  # leaves half a pair behind in Python's generator
    np.random.standard_normal()  # noqa: NPY002
    saved = json.loads(json.dumps(RandomState.capture().to_json()))
    expected = _draw()
    random_state.seed(4, rank=0)
    RandomState.from_json(saved).restore()
    assert _draw() == expected


def test_processes_draw_different_numbers_and_the_same_ones_again():
    random_state.seed(1, rank=0)
    first = _draw()
    random_state.seed(1, rank=1)
    assert _draw() != first
    random_state.seed(1, rank=0)
    assert _draw() == first
