"""Captures and restores every random number generator's state.

Those are Python's, numpy's, and torch's on the CPU and on each GPU.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["RandomState", "seed"]


@dataclass(frozen=True, eq=False)
class RandomState:
    python: Any
    numpy: dict[str, Any]
    torch: Tensor
    cuda: tuple[Tensor, ...]

    @classmethod
    def capture(cls) -> RandomState:
        on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        # libraries draw from numpy's global generator, so that is the one to keep
        state = np.random.get_state(legacy=False)  # noqa: NPY002
        assert isinstance(state, dict)
        return cls(random.getstate(), state, torch.get_rng_state(), tuple(on_gpu))

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.torch)
        if self.cuda and len(self.cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(list(self.cuda))

    def to_json(self) -> dict[str, Any]:
        version, words, gauss = self.python
        inner = {**self.numpy["state"], "key": self.numpy["state"]["key"].tolist()}
        return {
            "python": [version, list(words), gauss],
            "numpy": {**self.numpy, "state": inner},
            "torch": self.torch.numpy().tobytes().hex(),
            "cuda": [state.numpy().tobytes().hex() for state in self.cuda],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RandomState:
        version, words, gauss = data["python"]
        inner = {**data["numpy"]["state"], "key": np.array(data["numpy"]["state"]["key"], np.uint32)}
        return cls(
            (version, tuple(words), gauss),
            {**data["numpy"], "state": inner},
            _bytes(data["torch"]),
            tuple(_bytes(state) for state in data["cuda"]),
        )


def seed(value: int, *, rank: int) -> None:
    """Seeds all generators, differently for each process, so that processes do not drop out the same units."""
    mixed = (value * 1_000_003 + rank) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002
    torch.manual_seed(mixed)


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
