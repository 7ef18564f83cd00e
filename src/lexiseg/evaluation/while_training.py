"""Measures a model while it trains.

The trainer calls it every so many steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lexiseg.benchmarks import _benchmark
from lexiseg.benchmarks._benchmark import Opened
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.inference.predictor import Predictor
from lexiseg.segmenter import Inference

__all__ = ["WhileTraining"]


@dataclass(frozen=True)
class WhileTraining:
    """Scores of benchmarks by name, "voc21/miou" and so on (fractions 0-1), and overlays of their first photographs.

    data: the folder that the benchmarks lie below.
    inference: how the model being trained treats a picture.
    limit: photographs to measure on, spread over the split; None for all.
    pictures: overlays per benchmark.
    """

    benchmarks: tuple[str, ...]
    data: Path
    inference: Inference
    limit: int | None = 200
    pictures: int = 2

    def __call__(self, segmenter: Any, step: int) -> dict[str, Any]:
        predictor = Predictor(copy.deepcopy(segmenter), self.inference, name=f"step {step}", dtype="fp32")
        found: dict[str, Any] = {}
        for opened in self._opened:
            name = opened.benchmark.name
            scores = evaluate(predictor, opened, limit=self.limit).scores
            found |= {f"{name}/{score}": interval.value for score, interval in scores.items()}
            for sample in opened.samples[: self.pictures]:
                overlay = predictor.segment(sample.image(), opened.vocabulary, scores=False).overlay()
                found[f"{name}/{sample.key}"] = overlay
        return found

    @cached_property
    def _opened(self) -> tuple[Opened, ...]:
        return tuple(_benchmark.open(name, self.data) for name in self.benchmarks)
