"""Measures on corrupted photographs, and what remains of the score.

MaskCLIP did so (Table 1b).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lexiseg.evaluation.counting import Counting, Keep, Progress
from lexiseg.evaluation.evaluate import measure
from lexiseg.evaluation.pipeline import Corruption
from lexiseg.evaluation.result import Result
from lexiseg.evaluation.subject import Subject

__all__ = ["Robustness", "robustness"]


@dataclass(frozen=True, eq=False)
class Robustness:
    """The results on clean and on corrupted photographs."""

    clean: Result
    corrupted: dict[tuple[str, int], Result]  # by kind and severity

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(kind for kind, _ in self.corrupted))

    @property
    def severities(self) -> list[int]:
        return sorted({severity for _, severity in self.corrupted})

    def degradation(self, kind: str, severity: int, *, score: str = "miou") -> float:
        """The share of the clean score that is lost, 0-1; negative where it rises."""
        return 1 - self.corrupted[kind, severity][score] / self.clean[score]

    def mean(self, severity: int, *, score: str = "miou") -> float:
        """Of the corrupted scores at one severity."""
        found = [result[score] for (_, level), result in self.corrupted.items() if level == severity]
        return sum(found) / len(found)


def robustness(
    subject: Subject,
    corruptions: Sequence[tuple[str, int]],
    counting: Counting,
    *,
    bgr: bool = False,
    keep: Callable[[Corruption | None], Keep] = lambda _: Keep(),
    progress: Progress | None = None,
) -> Robustness:
    """Measures `subject` on clean photographs and on each corruption (kind, severity).

    Photographs are corrupted at their own size, before they are resized; each by its own seed, so that order and
    processes do not matter.
    bgr: hand the functions reversed channels, as MaskCLIP's released code did.
    keep: where the result of each goes; it is called with None for the clean one.
    """
    clean = measure(subject, counting, keep=keep(None), progress=progress)
    corrupted = {}
    for kind, severity in corruptions:
        corruption = Corruption(kind, severity, bgr)
        one = replace(counting, corruption=corruption)
        corrupted[kind, severity] = measure(subject, one, keep=keep(corruption), progress=progress)
    return Robustness(clean, corrupted)
