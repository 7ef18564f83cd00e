"""Sources made up for tests: cheap samples whose content shows which random numbers made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lexiseg.errors import BadSample


class Numbers:
    """Sample i holds i and one random number; the indices in `bad` cannot be read."""

    def __init__(self, lengths: Sequence[int], bad: Sequence[int] = ()) -> None:
        self.blocks, self.bad = list(lengths), frozenset(bad)

    def key(self, index: int) -> str:
        return f"number-{index}"

    def load(self, index: int, random: np.random.Generator) -> dict[str, Any]:
        if index in self.bad:
            raise BadSample("broken image" if index % 2 else "empty caption", "made up")
        return {"key": self.key(index), "image": torch.tensor([index, random.random()]), "text": str(index)}

    def manifest(self) -> dict[str, Any]:
        return {"kind": "numbers", "lengths": self.blocks}
